"""Closures, partials, lambdas and tasks are inputs as any other."""

import functools
from collections.abc import Callable

import millstream

env = millstream.TaskEnvironment("functions_as_inputs")


@env.task
def plus(a: int, b: int) -> int:
    return a + b


@env.task
async def apply(function: Callable[[int], int], n: int) -> int:
    return function(n)


@env.task
async def call(task: Callable[..., object], n: int) -> int:
    assert isinstance(task, millstream.SyncTask)
    return await task.aio(n, n)


@env.task
async def main() -> list[int]:
    offset = 10
    return [
        await apply(lambda n: n + offset, 1),
        await apply(functools.partial(pow, 2), 5),
        await apply(abs, -3),
        await call(plus, 4),
    ]


EXPECT = [11, 32, 3, 8]
