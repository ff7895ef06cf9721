"""Folders: what is in them, how deep, by pattern, one file, a copy, and none at all."""

import tempfile
from pathlib import Path

import millstream
from millstream.io import Dir

env = millstream.TaskEnvironment("folder_walk")


@env.task
async def make() -> Dir:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "data"
        for path in ("a.txt", "b.csv", "one/c.txt", "one/two/d.csv"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(path)
        return await Dir.from_local(root)


@env.task
async def look(folder: Dir) -> list[object]:
    every = [file.name async for file in folder.walk()]
    two = [file.name async for file in folder.walk(max_depth=2)]
    flat = [file.name for file in await folder.list_files()]
    one = await folder.get_file("a.txt")
    none = await folder.get_file("z.txt")
    return [every, two, flat, one is not None and one.name, none is None, await folder.exists()]


@env.task
def look_sync(folder: Dir) -> list[object]:
    csv = [file.name for file in folder.walk_sync(file_pattern="*.csv")]
    flat = [file.name for file in folder.list_files_sync()]
    target = folder.download_sync(Path(tempfile.mkdtemp()) / "copy")
    one = folder.get_file_sync("one/c.txt")
    assert one is not None
    with one.open_sync("r") as fh:
        text = fh.read()
    return [csv, flat, (Path(target) / "one/two/d.csv").read_text(), text, folder.exists_sync()]


@env.task
async def nothing() -> Dir:
    return Dir.empty()


@env.task
async def main() -> list[object]:
    folder = await make()
    empty = await nothing()
    found = [*await look(folder), *await look_sync.aio(folder)]
    return [*found, folder.name, folder.is_empty, empty.is_empty, await empty.exists()]


EXPECT = [
    ["a.txt", "b.csv", "c.txt", "d.csv"],
    ["a.txt", "b.csv", "c.txt"],
    ["a.txt", "b.csv"],
    "a.txt",
    True,
    True,
    ["b.csv", "d.csv"],
    ["a.txt", "b.csv"],
    "one/two/d.csv",
    "one/c.txt",
    True,
    "data",
    False,
    True,
    False,
]
