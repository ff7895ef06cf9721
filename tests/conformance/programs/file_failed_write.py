"""A write that fails leaves no file behind; text and compression work."""

import millstream
from millstream.io import File

env = millstream.TaskEnvironment("file_failed_write")


@env.task
async def main() -> list[object]:
    broken = File.new_remote("broken.txt")
    try:
        async with broken.open("wb") as fh:
            await fh.write(b"half")
            raise KeyError("stop")
    except KeyError:
        pass
    packed = File.new_remote("a.txt.gz")
    async with packed.open("w", compression="gzip", encoding="utf-8") as fh:
        await fh.write("ünï\ncode")
    lines = []
    async with packed.open("r", compression="infer", encoding="utf-8") as fh:
        async for line in fh:
            lines.append(line)
    async with packed.open("rb") as fh:
        magic = bytes(await fh.read(2))
    missing = False
    try:
        async with File.from_existing_remote(broken.path).open() as fh:
            await fh.read()
    except FileNotFoundError:
        missing = True
    return [await broken.exists(), lines, magic == b"\x1f\x8b", missing]


EXPECT = [False, ["ünï\n", "code"], True, True]
