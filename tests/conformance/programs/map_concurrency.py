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
async def main() -> bool:
    spans = [
        span
        async for span in millstream.map.aio(child, range(6), concurrency=2)
        if not isinstance(span, Exception)
    ]
    at_once = max(sum(a <= began < b for a, b in spans) for began, _ in spans)
    # A busy machine may run fewer.
    return len(spans) == 6 and at_once <= 2


EXPECT = True
