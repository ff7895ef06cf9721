"""A call that nobody awaits does not happen."""

import asyncio
import tempfile
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("never_awaited")


@env.task
async def child(file: str, word: str) -> None:
    with Path(file).open("a") as out:
        out.write(word)


@env.task
async def main() -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ran"
        unused = child(str(file), "unused ")
        await asyncio.sleep(0.05)
        unused.close()
        await child(str(file), "used")
        return file.read_text()


EXPECT = "used"
