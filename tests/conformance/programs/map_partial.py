"""`map` takes a partial that leaves one parameter open, and refuses any other."""

import functools

import millstream

env = millstream.TaskEnvironment("map_partial")


@env.task
def child(base: int, n: int, step: int) -> int:
    return base + n * step


@env.task
def main() -> list[int | str]:
    found: list[int | str] = list(millstream.map(functools.partial(child, 100, step=10), range(3)))
    try:
        list(millstream.map(functools.partial(child, 100), range(3)))
    except TypeError as exc:
        found.append(("exactly one parameter unspecified" in str(exc) and "TypeError") or str(exc))
    return found


EXPECT = [100, 110, 120, "TypeError"]
