"""A file that one task streams out is streamed in by another."""

import millstream
from millstream.io import File

env = millstream.TaskEnvironment("file_round_trip")


@env.task
async def write(lines: int) -> File:
    file = File.new_remote("numbers.txt")
    async with file.open("wb") as fh:
        for n in range(lines):
            await fh.write(f"{n}\n".encode())
    return file


@env.task
async def read(file: File) -> list[int]:
    async with file.open("rb") as fh:
        content = bytes(await fh.read())
    async with file.open("rb") as fh:
        first = await fh.readline()
    return [len(content.splitlines()), len(first), int(first.decode())]


@env.task
async def main() -> list[object]:
    file = await write(1000)
    return [file.name, await read(file), await file.exists()]


EXPECT = ["numbers.txt", [1000, 2, 0], True]
