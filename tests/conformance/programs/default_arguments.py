"""Defaults hold, falsy ones and those of a dataclass too."""

import millstream

env = millstream.TaskEnvironment("default_arguments")


@env.task
async def child(
    a: int, b: int = 0, c: str = "", d: bool = False, *, e: list[int] | None = None
) -> list[object]:
    return [a, b, c, d, e]


@env.task
async def main(n: int = 1) -> list[object]:
    return [await child(n), await child(n, 2, e=[0]), await child(a=3, c="x")]


EXPECT = [[1, 0, "", False, None], [1, 2, "", False, [0]], [3, 0, "x", False, None]]
