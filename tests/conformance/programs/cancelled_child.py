"""`asyncio.timeout` around a child takes the child back and leaves the parent well."""

import asyncio

import millstream

env = millstream.TaskEnvironment("cancelled_child")


@env.task
async def forever() -> None:
    await asyncio.sleep(3600)


@env.task
async def child(n: int) -> int:
    return n


@env.task
async def main() -> list[object]:
    try:
        async with asyncio.timeout(0.2):
            await forever()
    except TimeoutError:
        return ["timed out", await child(7)]
    return []


EXPECT = ["timed out", 7]
