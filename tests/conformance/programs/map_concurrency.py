"""`map(concurrency=2)` runs two at once and no more."""

import asyncio
import time

import millstream

env = millstream.TaskEnvironment("map_concurrency")


@env.task
async def child(n: int) -> tuple[float, float]:
    began = time.time()
    await asyncio.sleep(0.03)
    return began, time.time()


@env.task
async def main() -> int:
    spans = [
        span
        async for span in millstream.map.aio(child, range(6), concurrency=2)
        if not isinstance(span, Exception)
    ]
    return max(sum(a <= began < b for a, b in spans) for began, _ in spans)


EXPECT = 2
