"""Items of a long map that call tasks, record steps or ask for their own name get actions."""

import sys

import millstream

env = millstream.TaskEnvironment("corpus")
N = 1_010


@env.task
async def other(x: int) -> int:
    return x + 1


@millstream.trace
async def step(x: int) -> int:
    return x + 2


@env.task
async def mixed(x: int) -> int | str:
    if x % 500 == 30:
        return await other(x)
    if x % 500 == 31:
        return await step(x)
    if x % 500 == 32:
        action = millstream.ctx().action
        assert action is not None
        return "a name of its own"
    return x


@env.task
def hidden(x: int) -> int | str:
    """Ask for its name in a way that nobody sees beforehand."""
    if x % 500 == 33:
        return "found" if sys.modules["millstream"].ctx().action is not None else "none"
    return x


@env.task
async def main() -> list[int | str]:
    found = [result async for result in millstream.map.aio(mixed, range(N))]
    odd = [result for number, result in enumerate(found) if result != number]
    also = [result async for result in millstream.map.aio(hidden, range(N))]
    assert [n for n, result in enumerate(also) if result == "found"] == [33, 533]
    assert [result for result in also if result != "found"] == [
        n for n in range(N) if n % 500 != 33
    ]
    return [len(found), *(result for result in odd if isinstance(result, int | str))]


EXPECT = [N, *(part for n in (0, 500) for part in (n + 31, n + 33, "a name of its own"))]
