"""A tuple at the top is several outputs, also a named one; below the top it is one value."""

from typing import NamedTuple

import millstream

env = millstream.TaskEnvironment("types_several_outputs")


class Split(NamedTuple):
    train: list[int]
    test: list[int]


@env.task
def split(items: list[int]) -> Split:
    return Split(items[:2], items[2:])


@env.task
def pair(a: int) -> tuple[int, str]:
    return a, str(a)


@env.task
def nested(splits: list[Split], shape: tuple[int, ...]) -> list[tuple[Split, int]]:
    return [(each, len(shape)) for each in splits]


@env.task
async def main() -> Split:
    made = await split.aio([1, 2, 3])
    number, text = await pair.aio(4)
    deep = await nested.aio([made], (5, 6))
    assert deep == [(made, 2)]
    assert isinstance(deep[0][0], Split)
    return Split([*made.train, number], [*made.test, int(text)])


EXPECT = Split([1, 2, 4], [3, 4])
