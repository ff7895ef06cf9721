"""`syncify` gives async functions a plain form, in sync tasks and in async ones."""

import asyncio
from collections.abc import AsyncIterator

import millstream
from millstream.syncify import syncify

env = millstream.TaskEnvironment("syncified")


@syncify
async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@syncify
async def count(to: int) -> AsyncIterator[int]:
    for n in range(to):
        yield n


@env.task
def plainly() -> list[int]:
    return [add(1, 2), *count(3)]


@env.task
async def main() -> list[int]:
    found = await plainly.aio()
    found.append(await add.aio(3, 4))
    found += [n async for n in count.aio(2)]
    return found


EXPECT = [3, 0, 1, 2, 7, 0, 1]
