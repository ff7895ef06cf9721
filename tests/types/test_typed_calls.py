"""Types of task calls, checked by mypy and pyright; never run as a test of behaviour."""

from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, assert_type

from millstream import durable
from millstream._environment import TaskEnvironment
from millstream._map import map as map_
from millstream._trace import trace

env = TaskEnvironment("typed")


@env.task
async def add(a: int, b: int) -> int:
    return a + b


@env.task(retries=3, cache="auto")
async def text(a: int, *, upper: bool = False) -> str:
    return str(a).upper() if upper else str(a)


@env.task
def double(a: int) -> float:
    return a * 2.0


@trace
async def step(a: int) -> list[int]:
    return [a]


async def calls() -> None:
    unawaited: Coroutine[Any, Any, int] = add(1, 2)
    await unawaited
    assert_type(await add(1, 2), int)
    assert_type(await add.aio(1, b=2), int)
    assert_type(await add.override(retries=2)(1, 2), int)
    assert_type(await text(1, upper=True), str)
    assert_type(double(1), float)
    assert_type(await double.aio(1), float)
    assert_type(double.override(queue="q")(1), float)
    assert_type(double.forward(1), float)
    assert_type(await step(1), list[int])
    assert_type(await durable.time.aio(), float)


async def wrong_calls() -> None:
    await add("1", 2)  # type: ignore[arg-type]  # a wrong type is found
    await add(1)  # type: ignore[call-arg]  # a missing argument is found
    await text(1, lower=True)  # type: ignore[call-arg]  # an unknown argument is found


def maps() -> None:
    assert_type(map_(add, [1], [2]), Iterator[int | Exception])
    assert_type(map_(add, [1], [2], return_exceptions=False), Iterator[int])
    assert_type(map_.aio(double, [1]), AsyncIterator[float | Exception])


def test_the_types_above_are_checked_by_mypy_not_here() -> None:
    assert add.name == "typed.add"
