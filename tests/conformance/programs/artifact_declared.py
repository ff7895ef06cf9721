"""A caller publishes what another task returns, and what it says of it goes first."""

import millstream as flyte
from millstream import artifacts
from millstream.errors import RuntimeUserError
from millstream.io import Dir, File
from millstream.remote import Artifact

env = flyte.TaskEnvironment("artifact_declared")


@env.task
async def clean() -> File:
    file = File.new_remote("clean.txt")
    async with file.open("wb") as fh:
        await fh.write(b"clean")
    return file


@env.task(produces_artifacts=True)
async def own() -> File:
    said = artifacts.Metadata(
        name="own-name", description="of the task", attrs={"a": "1", "b": "1"}
    )
    return artifacts.new(await clean(), said)


@env.task
async def main() -> list[object]:
    with artifacts.produces(o0=artifacts.Metadata(name="cleaned", version="v7")):
        await clean.override(produces_artifacts=True)()
    with artifacts.produces(o0=artifacts.Metadata(name="outer", attrs={"b": "2"})):
        await own()
    seen: list[object] = [each.name async for each in Artifact.list_names.aio(search="clean")]
    cleaned = await Artifact.get.aio("cleaned")
    outer = await Artifact.get.aio("outer")
    seen += [cleaned.version, outer.description, outer.attrs]
    names = [
        each.name async for each in Artifact.listall.aio(source_run=flyte.ctx().action.run_name)
    ]
    seen.append(sorted(names))
    try:
        with artifacts.produces(o5=artifacts.Metadata(name="none")):
            await clean.override(produces_artifacts=True)()
    except RuntimeUserError as exc:
        seen.append(exc.code)
    try:
        artifacts.new(3, artifacts.Metadata(name="none"))
    except TypeError as exc:
        seen.append("cannot be artifacts" in str(exc))
    seen.append(artifacts.new(Dir(path="/x"), artifacts.Metadata(name="d")).path)
    return seen


EXPECT = [
    "cleaned",
    "v7",
    "of the task",
    {"a": "1", "b": "2"},
    ["cleaned", "outer"],
    "UndeclaredOutput",
    True,
    "/x",
]
