"""The tasks that are timed: one small integer in, the same out."""

import asyncio

import millstream

env = millstream.TaskEnvironment("bench")


@env.task
async def noop(x: int) -> int:
    return x


@env.task
async def parent(n: int) -> int:
    for _ in range(n):
        await noop(7)
    return n


@env.task
async def spread(n: int) -> int:
    return sum(await asyncio.gather(*(noop(i) for i in range(n))))
