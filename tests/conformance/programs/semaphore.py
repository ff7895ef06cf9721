"""A semaphore of the task's own bounds its children."""

import asyncio
import time

import millstream

env = millstream.TaskEnvironment("semaphore")


@env.task
async def child(n: int) -> tuple[float, float]:
    began = time.time()
    await asyncio.sleep(0.02)
    return began, time.time()


@env.task
async def main() -> bool:
    gate = asyncio.Semaphore(2)

    async def bounded(n: int) -> tuple[float, float]:
        async with gate:
            return await child(n)

    spans = await asyncio.gather(*(bounded(n) for n in range(6)))
    return max(sum(a <= began < b for a, b in spans) for began, _ in spans) <= 2


EXPECT = True
