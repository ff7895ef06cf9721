"""A file that is passed on stays where it is, through any container and model."""

from dataclasses import dataclass

from pydantic import BaseModel

import millstream
from millstream.io import Dir, File

env = millstream.TaskEnvironment("file_passed_on")


@dataclass
class Held:
    file: File
    files: list[File]


class Model(BaseModel):
    file: File
    folder: Dir | None = None


@env.task
async def same(file: File) -> File:
    return file


@env.task
async def held(held: Held) -> dict[str, File]:
    return {"a": held.file, "b": held.files[0]}


@env.task
async def model(model: Model) -> Model:
    return model


@env.task
async def maybe(file: File | None = None) -> File | None:
    return file


@env.task
async def untyped(file):  # type: ignore[no-untyped-def]
    return [isinstance(file, File)]


@env.task
async def main() -> list[bool]:
    file = File.new_remote("x.bin")
    async with file.open("wb") as fh:
        await fh.write(b"x")
    both = await held(Held(file, [file]))
    through = await model(Model(file=file))
    return [
        (await same(file)).path == file.path,
        both["a"].path == both["b"].path == file.path,
        through.file == file and through.folder is None,
        await maybe(file) == file,
        await maybe() is None,
    ]


EXPECT = [True] * 5
