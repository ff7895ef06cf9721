"""An ordinary task calls static ones: async, sync, nested, twice alike, beside its own calls."""

import asyncio

import millstream

env = millstream.TaskEnvironment("static_called")


@env.task
async def add(a: int, b: int) -> int:
    return a + b


@env.task
def double(n: int) -> int:
    return 2 * n


@env.task(static=True)
def inner(n: int) -> int:
    return double(double(n))


@env.task(static=True)
async def outer(n: int, more: int = 5) -> int:
    return await add(inner(n), inner(more))


@env.task
def caller(n: int) -> int:
    return inner(n)


@env.task
async def main() -> list[int]:
    found = await asyncio.gather(outer(1), outer(1), outer(2, more=0), add(1, 1), caller.aio(3))
    return [*found, await inner.aio(10)]


EXPECT = [24, 24, 8, 2, 12, 40]
