"""A folder that is walked and read as a stream: nothing is downloaded, nothing is held.

`Dir.walk` gives files as it finds them, and each file is read in blocks of 64 KiB, so a folder
of any size needs the memory of one block.

    python examples/folder_stream.py [DIRECTORY]
"""

import hashlib
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import millstream
from millstream.io import Dir

env = millstream.TaskEnvironment("folder_stream")
BLOCK_BYTES = 64 * 1024


@dataclass
class Total:
    """What went by."""

    files: int
    bytes: int
    largest_block: int
    digest: str


@env.task
async def read_through(folder: Dir) -> Total:
    """Read every file of a folder once, block after block."""
    total = Total(0, 0, 0, "")
    digest = hashlib.sha256()
    async for file in folder.walk():
        if not str(file.name).endswith(".py"):
            continue
        total.files += 1
        async with file.open("rb") as opened:
            while block := await opened.read(BLOCK_BYTES):
                digest.update(block)
                total.bytes += len(block)
                total.largest_block = max(total.largest_block, len(block))
    total.digest = digest.hexdigest()[:12]
    return total


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    path = sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("stdlib") + "/asyncio"
    total = millstream.run(read_through, Dir.from_existing_remote(path)).result()
    print(f"{total.files} files, {total.bytes} bytes, digest {total.digest}")
    print(f"largest block: {total.largest_block} bytes")
