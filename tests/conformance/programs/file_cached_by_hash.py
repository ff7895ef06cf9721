"""A file with a hash is the same input wherever it lies; another hash is another input."""

import hashlib
import uuid

import millstream
from millstream.io import Dir, File, HashFunction

env = millstream.TaskEnvironment("file_cached_by_hash")


async def written(content: bytes, hash_method: object) -> File:
    file = File.new_remote("f.txt", hash_method=hash_method)  # type: ignore[arg-type]
    async with file.open("wb") as fh:
        await fh.write(content)
    return file


@env.task(cache="auto")
async def token(file: File) -> str:
    return uuid.uuid4().hex


@env.task(cache="auto")
async def folder_token(folder: Dir) -> str:
    return uuid.uuid4().hex


@env.task
async def main() -> list[object]:
    sha = HashFunction.from_fn(lambda data: hashlib.sha256(data).hexdigest())
    one = await written(b"same", sha)
    two = await written(b"same", sha)
    other = await written(b"other", sha)
    keyed = await written(b"not the same", one.hash)
    existing = File.from_existing_remote(other.path, file_cache_key="k")
    again = File.from_existing_remote(one.path, file_cache_key="k")
    here = Dir.from_existing_remote("/nowhere/a", dir_cache_key="d")
    there = Dir.from_existing_remote("/nowhere/b", dir_cache_key="d")
    first = await token(one)
    return [
        one.path == two.path,
        one.hash == hashlib.sha256(b"same").hexdigest(),
        first == await token(two),
        first == await token(other),
        first == await token(keyed),
        await token(existing) == await token(again),
        await folder_token(here) == await folder_token(there),
    ]


EXPECT = [False, True, True, False, True, True, True]
