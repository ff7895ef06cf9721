"""What a task returns as an artifact is found by name and partition, and stands for its value."""

from datetime import date

import millstream as flyte
from millstream import artifacts
from millstream.io import File
from millstream.remote import Artifact

env = flyte.TaskEnvironment("artifact_published")
NAME = "corpus-model"


async def written(text: str) -> File:
    file = File.new_remote("model.txt")
    async with file.open("wb") as fh:
        await fh.write(text.encode())
    return file


@env.task(produces_artifacts=True)
async def train(day: int) -> tuple[File, int]:
    said = artifacts.Metadata(
        name=NAME,
        kind="model",
        description="A model.",
        attrs={"framework": "none"},
        partitions={"date": date(2026, 8, day), "region": "eu"},
    )
    return artifacts.new(await written(f"day {day}"), said), day


@env.task
async def read(file: File) -> str:
    async with file.open("rb") as fh:
        return bytes(await fh.read()).decode()


@env.task
async def both(files: list[File]) -> list[str]:
    return [await read(file) for file in files]


@env.task
async def main() -> list[object]:
    given = [(await train(day))[1] for day in (1, 2)]
    newest = await Artifact.get.aio(NAME)
    first = await Artifact.get.aio(NAME, date=date(2026, 8, 1), region="eu")
    between = (date(2026, 8, 1), date(2026, 8, 31))
    return [
        given,
        (newest.kind, newest.description, newest.attrs["framework"]),
        (newest.partitions["date"].day, newest.partitions["region"]),
        newest.source_run == flyte.ctx().action.run_name,
        newest.version != first.version,
        await read(file=first),
        await both([newest, first]),
        [each.partitions["date"].day async for each in Artifact.listall.aio(NAME, date=between)],
        await Artifact.partition_values.aio(NAME, "date") == [date(2026, 8, 1), date(2026, 8, 2)],
        (await Artifact.get_schema.aio(NAME)).all_keys,
    ]


EXPECT = [
    [1, 2],
    ("model", "A model.", "none"),
    (2, "eu"),
    True,
    True,
    "day 1",
    ["day 2", "day 1"],
    [2, 1],
    True,
    ("date", "region"),
]
