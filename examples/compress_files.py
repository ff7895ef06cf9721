"""Files through `map`: every file is an action, four at a time, results in order.

A `File` travels as the place of its content, so the program that asks for the work never holds
what is in it.

    python examples/compress_files.py [DIRECTORY]
"""

import gzip
import sys
import sysconfig
from pathlib import Path

import millstream
from millstream.io import File

env = millstream.TaskEnvironment("compress_files")


@env.task
async def compress(source: File) -> File:
    """Return the file, gzipped."""
    async with source.open("rb") as file:
        content = bytes(await file.read())
    target = File.new_remote(f"{source.name}.gz")
    async with target.open("wb") as file:
        await file.write(gzip.compress(content, mtime=0))
    return target


@env.task
async def size(file: File) -> int:
    """Return how many bytes a file has."""
    async with file.open("rb") as opened:
        return len(await opened.read())


@env.task
async def compress_all(folder: str, pattern: str = "*.py") -> list[tuple[str, int, int]]:
    """Compress the files of a folder; return (name, size, compressed size)."""
    sources = [File.from_existing_remote(str(path)) for path in sorted(Path(folder).glob(pattern))]
    packed = [
        file
        async for file in millstream.map.aio(
            compress, sources, concurrency=4, return_exceptions=False
        )
    ]
    before = [n async for n in millstream.map.aio(size, sources, return_exceptions=False)]
    after = [n async for n in millstream.map.aio(size, packed, return_exceptions=False)]
    return list(zip([str(file.name) for file in sources], before, after, strict=True))


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    folder = sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("stdlib") + "/json"
    rows = millstream.run(compress_all, folder).result()
    for name, before, after in rows:
        print(f"{name}: {before} -> {after}")
    print(f"smaller: {sum(after < before for _, before, after in rows)} of {len(rows)}")
