"""A large result lies in the blob store, and is reused from there."""

import asyncio
import os
import uuid

import millstream

env = millstream.TaskEnvironment("cache_large_results")


@env.task(cache=millstream.Cache("auto", serialize=True))
async def noise(seed: str, count: int) -> bytes:
    return os.urandom(count)


@env.task
async def main() -> list[object]:
    seed = uuid.uuid4().hex
    first = await noise(seed, 100_000)
    again = await asyncio.gather(*(noise(seed, 100_000) for _ in range(3)))
    return [len(first), *(each == first for each in again), first == await noise(seed, 99_999)]


EXPECT = [100_000, True, True, True, False]
