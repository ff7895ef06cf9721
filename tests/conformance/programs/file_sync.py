"""Sync tasks have the same calls with `_sync`."""

import tempfile
from pathlib import Path

import millstream
from millstream.io import File

env = millstream.TaskEnvironment("file_sync")


@env.task
def make() -> File:
    file = File.new_remote("a.txt")
    with file.open_sync("wb") as fh:
        fh.write(b"one\ntwo\n")
    return file


@env.task
def use(file: File) -> list[object]:
    with file.open_sync("rb") as fh:
        whole = fh.read().decode()
    with file.open_sync("r") as fh:
        lines = [line.strip() for line in fh]
    target = Path(tempfile.mkdtemp()) / "copy.txt"
    copied = file.download_sync(target)
    return [whole, lines, copied == str(target), target.read_text(), file.exists_sync()]


@env.task
def main() -> list[object]:
    return use(make())


EXPECT = ["one\ntwo\n", ["one", "two"], True, "one\ntwo\n", True]
