"""A task publishes and looks up artifacts; an attempt that is repeated does neither twice."""

import millstream as flyte
from millstream.io import File
from millstream.remote import Artifact, ArtifactNotFoundError

env = flyte.TaskEnvironment("artifact_in_task")
NAME = "corpus-in-task"


async def written(text: str) -> File:
    file = File.new_remote("part.txt")
    async with file.open("wb") as fh:
        await fh.write(text.encode())
    return file


@env.task(retries=1)
async def main() -> list[object]:
    made = await Artifact.create.aio(await written("a"), name=NAME, parents=["0"])
    first = await Artifact.get.aio(NAME)
    if flyte.ctx().attempt_number == 0:
        raise OSError("once")
    await Artifact.create.aio(await written("b"), name=NAME, version="second")
    newest = await Artifact.get.aio(NAME)
    try:
        await Artifact.get.aio(NAME, version="none")
    except ArtifactNotFoundError:
        missing = True
    return [
        first.version == made.version,
        made.parents[0].key.name,
        newest.version,
        [each.version async for each in Artifact.listall.aio(NAME)] == ["second", made.version],
        made.source_action,
        missing,
    ]


EXPECT = [True, NAME, "second", True, "a0", True]
