"""A task that yields: a reader that finds items one by one, and a parent that loops over them.

A failure half way through costs a retry and no item twice: items come to the parent once the
attempt that yielded them has succeeded.

    python examples/long_lines.py [DIRECTORY]
"""

import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("long_lines")
LIMIT = 100


@env.task(retries=1)
async def long_lines(folder: str, marker: str) -> AsyncIterator[tuple[str, int]]:
    """Yield (file, line number) of each line over the limit; the first attempt gives up early."""
    found = 0
    for path in sorted(Path(folder).glob("*.py")):
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if len(line) <= LIMIT:
                continue
            yield path.name, number
            found += 1
            if found == 5 and not Path(marker).exists():
                Path(marker).touch()
                raise OSError("the disk was gone for a moment")


@env.task
async def report(folder: str, marker: str) -> tuple[dict[str, int], bool]:
    """Count long lines by file, and say whether each came once."""
    counts: dict[str, int] = {}
    places: list[tuple[str, int]] = []
    async for name, number in long_lines(folder, marker):
        counts[name] = counts.get(name, 0) + 1
        places.append((name, number))
    return counts, len(places) == len(set(places))


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    source = sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("stdlib")
    with tempfile.TemporaryDirectory() as folder:
        counts, once = millstream.run(report, source, str(Path(folder) / "marker")).result()
    print(f"{sum(counts.values())} lines over {LIMIT} characters in {len(counts)} files")
    print(f"each came once: {once}")
