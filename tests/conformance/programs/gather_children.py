"""`gather` gives the results in the order of the calls."""

import asyncio

import millstream

env = millstream.TaskEnvironment("gather_children")


@env.task
async def child(n: int) -> int:
    await asyncio.sleep(0.03 if n == 0 else 0)
    return n


@env.task
async def main() -> list[int]:
    return list(await asyncio.gather(*(child(n) for n in range(8))))


EXPECT = list(range(8))
