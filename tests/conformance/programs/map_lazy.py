"""`map` takes its inputs as room appears: of an endless iterable only so many as it needs."""

import itertools
from collections.abc import Iterator

import millstream

env = millstream.TaskEnvironment("map_lazy")


@env.task
async def double(n: int) -> int:
    return 2 * n


@env.task
async def main() -> list[object]:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for n in itertools.count():
            taken.append(n)
            yield n

    found: list[object] = []
    mapped = millstream.map.aio(double, endless(), concurrency=2)
    async for result in mapped:
        found.append(result)
        if len(found) == 5:
            break
    found.append(len(taken) < 20)
    found.append([each async for each in millstream.map.aio(double)])
    found.append([each async for each in millstream.map.aio(double, [])])
    return found


EXPECT = [0, 2, 4, 6, 8, True, [], []]
