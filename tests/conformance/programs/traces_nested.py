"""Traces inside traces are replayed with the outer one; falsy results are replayed too."""

import millstream

env = millstream.TaskEnvironment("traces_nested")


@millstream.trace
async def inner(n: int) -> int:
    return n - n


@millstream.trace
async def outer(n: int) -> list[int]:
    return [await inner(n), await inner(n), await inner(n + 1)]


@millstream.trace
async def nothing() -> None:
    return None


@env.task(retries=1)
async def main() -> list[object]:
    found = await outer(3)
    last = await inner(3)
    await nothing()
    if millstream.ctx().attempt_number == 0:
        raise OSError("again")
    return [found, last]


EXPECT = [[0, 0, 0], 0]
