"""A loop over constants makes as many nodes; a gather and a map in a static body do as well."""

import asyncio

import millstream

env = millstream.TaskEnvironment("static_fan_out")


@env.task
async def square(n: int) -> int:
    return n * n


@env.task
def total(numbers: list[int], more: dict[str, int]) -> int:
    return sum(numbers) * 1000 + sum(more.values())


@env.task(static=True)
async def main() -> int:
    looped = [await square(n) for n in range(20)]
    gathered = await asyncio.gather(*[square(n) for n in (1, 2)])
    mapped = [each async for each in millstream.map.aio(square, [3, 4])]
    return await total.aio([*looped, *gathered], {"three": mapped[0], "four": mapped[1]})


EXPECT = 2475 * 1000 + 25
