"""A step over a data frame that runs again only when the frame's content changes.

The annotation says how the frame is hashed, so a frame that is made anew with the same rows is
the same input, wherever its bytes lie.

    python examples/frame_cache.py        (needs pandas and pyarrow)
"""

import sysconfig
import tempfile
from pathlib import Path
from typing import Annotated

import pandas as pd

import millstream
from millstream.io import HashFunction

env = millstream.TaskEnvironment("frame_cache")


def digest(frame: pd.DataFrame) -> str:
    """Return what stands for the rows of a frame."""
    return str(pd.util.hash_pandas_object(frame).sum())


Sizes = Annotated[pd.DataFrame, HashFunction.from_fn(digest)]


@env.task
async def measure(pattern: str) -> Sizes:
    """Return name and size of the standard library's modules."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob(pattern))
    return pd.DataFrame(
        {"name": [f.stem for f in files], "size": [f.stat().st_size for f in files]}
    )


@env.task(cache="auto")
async def largest(sizes: pd.DataFrame, count: int, journal: str) -> list[str]:
    """Return the names of the largest modules."""
    with Path(journal).open("a") as file:
        file.write("ran\n")
    return [str(name) for name in sizes.nlargest(count, "size")["name"]]


@env.task
async def pipeline(journal: str) -> list[list[str]]:
    """Ask twice about equal frames, and once about another."""
    return [
        await largest(await measure(pattern), 3, journal) for pattern in ("*.py", "a*.py", "*.py")
    ]


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        answers = millstream.run(pipeline, str(journal)).result()
        runs = len(journal.read_text().splitlines())
    print(f"asked {len(answers)} times, ran {runs} times")
    print(f"first and last answer are equal: {answers[0] == answers[-1]}")
    print(f"largest: {', '.join(answers[0])}")
