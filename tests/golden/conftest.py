import sys
from pathlib import Path

# Under import-mode=importlib a test cannot import its neighbours; these two folders hold the
# log builder, the strategies and the golden script, which several test files share.
_HERE = Path(__file__).resolve().parent
for folder in (_HERE, _HERE.parent / "events"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
