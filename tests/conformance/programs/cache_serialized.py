"""Of identical calls at the same time one runs; the others wait and take its result."""

import asyncio
import uuid

import millstream

env = millstream.TaskEnvironment("cache_serialized")


@env.task(cache=millstream.Cache("auto", serialize=True))
async def token(n: int, seed: str) -> str:
    await asyncio.sleep(0.1)
    return uuid.uuid4().hex


@env.task
async def main() -> list[int]:
    seed = uuid.uuid4().hex
    same = await asyncio.gather(*(token(1, seed) for _ in range(8)))
    mixed = await asyncio.gather(*(token(n % 3, seed) for n in range(9)))
    return [len(set(same)), len(set(mixed)), len({*same, *mixed})]


EXPECT = [1, 3, 3]
