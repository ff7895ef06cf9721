"""What `from_local` took in a task is there after the local file is gone."""

import tempfile
from pathlib import Path

import millstream
from millstream.io import Dir, File

env = millstream.TaskEnvironment("file_outlives_its_source")


@env.task
async def make() -> tuple[File, Dir]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.txt"
        path.write_text("kept")
        inner = Path(folder) / "inner"
        inner.mkdir()
        (inner / "x.txt").write_text("kept too")
        return await File.from_local(path), await Dir.from_local(inner)


@env.task
async def main() -> list[object]:
    file, folder = await make()
    async with file.open() as fh:
        text = (await fh.read()).decode()
    inside = await folder.get_file("x.txt")
    assert inside is not None
    async with inside.open() as fh:
        return [file.name, text, folder.name, bytes(await fh.read()).decode()]


EXPECT = ["report.txt", "kept", "inner", "kept too"]
