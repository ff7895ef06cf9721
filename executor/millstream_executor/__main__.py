"""The agent process: `python -m millstream_executor --config FILE`.

The root template is started before anything else is imported; see `root_start`.
"""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

from millstream._raw_place import RAW_DATA_VARIABLE, RAW_DIR
from millstream_executor.root_start import StartedRoot, new_mark, start_root


def main() -> int:
    """Run one agent until SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(prog="millstream_executor", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON of AgentConfig")
    path: Path = parser.parse_args().config
    content = path.read_bytes()
    mark = new_mark()
    root: StartedRoot | None = None
    with contextlib.suppress(ValueError, KeyError, TypeError):  # `serve` says what is wrong.
        data_dir = Path(json.loads(content)["data_dir"]).absolute()
        # Workers inherit it: where tasks put files, unless their run says otherwise.
        os.environ.setdefault(RAW_DATA_VARIABLE, str(data_dir / RAW_DIR))
        if sys.platform == "linux":
            root = start_root("", mark)
    # An agent writes JSON lines; what structlog has for people would load all of rich.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type] # "not to be imported"
    from millstream_executor.agent_serve import serve

    return serve(content, mark, root)


if __name__ == "__main__":
    raise SystemExit(main())
