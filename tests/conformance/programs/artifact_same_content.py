"""A version made of the content is the same for the same content, and never means another."""

import millstream as flyte
from millstream import artifacts
from millstream.errors import RejectedError
from millstream.io import File
from millstream.remote import Artifact

env = flyte.TaskEnvironment("artifact_same_content")
NAME = "corpus-content"


async def at(path: str, text: str) -> File:
    return File.from_existing_remote(path, file_cache_key=text)


@env.task
async def main() -> list[object]:
    said = artifacts.Metadata(name=NAME, version_from_content=True)
    made = [
        await Artifact.create.aio(artifacts.new(await at(f"/data/{text}", text), said))
        for text in ("a", "b", "a")
    ]
    try:
        await Artifact.create.aio(await at("/data/c", "c"), name=NAME, version="a")
    except RejectedError as exc:
        code = exc.reason_code
    try:
        await Artifact.create.aio(await at("/data/c", "c"), name=NAME, partitions={"r": "eu"})
    except RejectedError as exc:
        other = exc.reason_code
    found = [each.version async for each in Artifact.listall.aio(NAME)]
    return [[each.version for each in made], sorted(found), code, other]


EXPECT = [["a", "b", "a"], ["a", "b"], "artifact-taken", "partition-mismatch"]
