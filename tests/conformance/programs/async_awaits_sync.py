"""Async code awaits a sync task by `aio`."""

import asyncio

import millstream

env = millstream.TaskEnvironment("async_awaits_sync")


@env.task
def square(n: int) -> int:
    return n * n


@env.task
async def main() -> list[int]:
    return list(await asyncio.gather(*(square.aio(n) for n in range(5))))


EXPECT = [0, 1, 4, 9, 16]
