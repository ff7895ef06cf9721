"""A long map gives its results in order, from async and sync code, and over several iterables."""

import millstream

env = millstream.TaskEnvironment("corpus")
N = 2_500


@env.task
async def together(x: int, y: int) -> int:
    return x * 10 + y


@env.task
def double(x: int) -> int:
    return 2 * x


@env.task
def doubles() -> list[int]:
    return [result for result in millstream.map(double, range(N)) if isinstance(result, int)]


@env.task
async def main() -> list[bool]:
    pairs = millstream.map.aio(together, range(N), [n % 10 for n in range(N + 7)])
    found = [result async for result in pairs]
    lazy = [result async for result in millstream.map.aio(double, (n for n in range(N)))]
    return [
        found == [n * 10 + n % 10 for n in range(N)],
        await doubles.aio() == [2 * n for n in range(N)],
        lazy == [2 * n for n in range(N)],
    ]


EXPECT = [True, True, True]
