"""A call below the very call that it would wait for runs by itself, instead of for ever."""

import asyncio
import uuid

import millstream

env = millstream.TaskEnvironment("cache_serialized_recursion")
CACHE = millstream.Cache("auto", serialize=True, ignored_inputs=("depth",))


@env.task(cache=CACHE)
async def down(seed: str, depth: int) -> int:
    return depth if depth == 0 else 1 + await down(seed, depth - 1)


@env.task(cache=CACHE)
async def ping(seed: str, depth: int) -> int:
    return depth if depth == 0 else await pong(seed, depth - 1)


@env.task(cache=CACHE)
async def pong(seed: str, depth: int) -> int:
    return depth if depth == 0 else await ping(seed, depth - 1)


@env.task
async def main() -> list[int]:
    seed = uuid.uuid4().hex
    first = await down(seed, 3)
    both = await asyncio.gather(ping(seed, 3), pong(seed, 3))
    return [first, *both]


EXPECT = [3, 0, 0]
