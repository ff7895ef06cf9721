"""Sets, tuples, dicts with odd keys, unions and None keep their shape."""

from typing import Literal, NamedTuple

import millstream

env = millstream.TaskEnvironment("containers")


class Point(NamedTuple):
    x: int
    y: int


VALUE: dict[tuple[int, str], set[int] | None] = {(1, "a"): {3, 1}, (2, "b"): None}


@env.task
async def echo(
    table: dict[tuple[int, str], set[int] | None],
    point: Point,
    level: Literal["low", "high"],
    many: int | list[str] | None = None,
) -> tuple[dict[tuple[int, str], set[int] | None], Point, str, int | list[str] | None]:
    return table, point, level, many


@env.task
async def main() -> list[object]:
    table, point, level, many = await echo(VALUE, Point(1, 2), "low", ["x"])
    return [table == VALUE, point, type(point).__name__, level, many]


EXPECT = [True, Point(1, 2), "Point", "low", ["x"]]
