"""Containers of the standard library keep class, order and limits."""

from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from uuid import UUID

import millstream

env = millstream.TaskEnvironment("types_standard_containers")
VALUES: list[object] = [
    OrderedDict([("b", 1), ("a", (2, 3))]),
    Counter("aab"),
    deque([1, 2], maxlen=2),
    defaultdict(list, {"a": [1]}),
    range(1, 9, 2),
    bytearray(b"\x00"),
    b"\xff",
    frozenset({1}),
    {(1, 2): {3}, None: 4},
    Fraction(1, 3),
    Decimal("1.10"),
    UUID(int=7),
    Path("a/b"),
    2 - 3j,
    -(2**80),
]


@env.task
def same(values: list[object]) -> list[object]:
    return values


@env.task
def typed(queue: deque[int], counts: Counter[str], table: defaultdict[str, list[int]]) -> int:
    queue.append(3)
    table["new"].append(counts["a"])
    return queue[0] + table["new"][0]


@env.task
async def main() -> list[object]:
    number = await typed.aio(deque([1, 2], maxlen=2), Counter("aab"), defaultdict(list))
    return [*await same.aio(VALUES), number]


EXPECT = [*VALUES, 4]
