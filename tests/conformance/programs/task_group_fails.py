"""An exception group leaves a task as one, with the failures in it."""

import asyncio

import millstream

env = millstream.TaskEnvironment("task_group_fails")


@env.task
async def fails(n: int) -> None:
    raise ValueError(f"number {n}")


@env.task
async def middle() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fails(1))


@env.task
async def main() -> list[str]:
    try:
        await middle()
    except ExceptionGroup as found:
        return [f"{type(exc).__name__}: {exc}" for exc in found.exceptions]
    return []


EXPECT = ["ValueError: number 1"]
