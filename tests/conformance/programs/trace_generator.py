"""Traced generators are replayed item by item, sync ones too."""

import uuid
from collections.abc import AsyncIterator, Iterator

import millstream

env = millstream.TaskEnvironment("trace_generator")


@millstream.trace
async def words() -> AsyncIterator[str]:
    for _ in range(3):
        yield uuid.uuid4().hex


@millstream.trace
def numbers(n: int) -> Iterator[int]:
    yield from range(n)


@env.task(cache=millstream.Cache("auto", version_override="1"))
async def remembered(key: str) -> list[str]:
    return [word async for word in words()]


@env.task(retries=1)
async def traced(key: str) -> bool:
    now = [word async for word in words()]
    same = await remembered(key) if millstream.ctx().attempt_number else []
    if millstream.ctx().attempt_number == 0:
        raise OSError(",".join(now))
    return len(now) == 3 and len(same) == 3


@env.task
async def main() -> list[object]:
    return [await traced(uuid.uuid4().hex), list(numbers(3))]


EXPECT = [True, [0, 1, 2]]
