"""`asyncio.TaskGroup` over actions: they all succeed, or the first failure takes the rest back.

Copies are compared with what they were made from, all at once. One that differs ends the group,
which cancels the comparisons that still run, and comes out through `except*`.

    python examples/all_or_nothing.py
"""

import asyncio
import shutil
import sysconfig
import tempfile
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("all_or_nothing")


class DifferentError(Exception):
    """A copy is not what it should be."""

    def __init__(self, name: str, offset: int) -> None:
        super().__init__(f"{name} differs at byte {offset}")
        self.name = name
        self.offset = offset


@env.task
async def compare(original: str, copy: str) -> int:
    """Return how many bytes are equal, or raise at the first that is not."""
    first, second = Path(original).read_bytes(), Path(copy).read_bytes()
    for offset, (left, right) in enumerate(zip(first, second, strict=True)):
        if left != right:
            raise DifferentError(Path(copy).name, offset)
    return len(first)


@env.task
async def verify(source: str, folder: str) -> str:
    """Compare every file of a folder with its original."""
    copies = sorted(Path(folder).iterdir())
    try:
        async with asyncio.TaskGroup() as group:
            pending = [
                group.create_task(compare(str(Path(source) / copy.name), str(copy)))
                for copy in copies
            ]
    except* DifferentError as found:
        answer = str(found.exceptions[0])
    else:
        answer = f"{len(copies)} copies of {sum(one.result() for one in pending)} bytes are equal"
    return answer


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    source = Path(sysconfig.get_path("stdlib")) / "json"
    with tempfile.TemporaryDirectory() as folder:
        for path in source.glob("*.py"):
            shutil.copy(path, folder)
        print(millstream.run(verify, str(source), folder).result())
        damaged = Path(folder) / "decoder.py"
        content = bytearray(damaged.read_bytes())
        content[100] ^= 1
        damaged.write_bytes(content)
        print(millstream.run(verify, str(source), folder).result())
