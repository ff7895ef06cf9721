"""A node that fails fails its graph, with the error that awaiting it would have raised."""

import asyncio

import millstream

env = millstream.TaskEnvironment("static_fails")


class Broken(Exception):
    def __init__(self, text: str, number: int) -> None:
        super().__init__(text, number)
        self.number = number


@env.task
async def good(n: int) -> int:
    return n


@env.task
async def bad(n: int) -> int:
    raise Broken("no", n)


@env.task
async def slow(n: int) -> int:
    await asyncio.sleep(60)
    return n


@env.task(timeout=millstream.Timeout(max_runtime=0.2))
async def late(n: int) -> int:
    await asyncio.sleep(60)
    return n


@env.task(static=True)
async def fails(n: int) -> int:
    one = await good(n)
    await slow(one)
    return await bad(one)


@env.task(static=True)
async def times_out(n: int) -> int:
    return await late(await good(n))


@env.task
async def main() -> list[object]:
    found: list[object] = []
    try:
        await fails(7)
    except Broken as error:
        found += [error.number, isinstance(error, millstream.errors.RuntimeUserError)]
    try:
        await times_out(1)
    except millstream.errors.MaxRuntimeExceededError:
        found.append("late")
    return found


EXPECT = [7, True, "late"]
