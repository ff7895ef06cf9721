"""One failure in a `TaskGroup` cancels the others and comes out in a group."""

import asyncio

import millstream

env = millstream.TaskEnvironment("task_group")


@env.task
async def forever() -> None:
    await asyncio.sleep(3600)


@env.task
async def fails() -> None:
    raise LookupError("no such stone")


@env.task
async def main() -> list[str]:
    texts: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(forever())
            group.create_task(fails())
    except* LookupError as found:
        texts += [str(exc) for exc in found.exceptions]
    return texts


EXPECT = ["no such stone"]
