"""One task over many inputs."""

import asyncio
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from millstream._environment import TaskEnvironment
from millstream._map import map as map_
from millstream.errors import SyncTaskCallInAsyncContextError

env = TaskEnvironment("maps")


@env.task
async def add(a: int, b: int = 100) -> int:
    if a == 13:
        raise ValueError("unlucky")
    return a + b


@env.task
def double(a: int) -> int:
    return a * 2


@env.task
async def three(a: int, b: int, c: int) -> int:
    return a * 100 + b * 10 + c


async def test_results_come_in_the_order_of_the_inputs(host: Any) -> None:
    order: list[int] = []

    async def slow_first(call: Any) -> None:
        order.append(len(order))
        await asyncio.sleep(0.02 if len(order) == 1 else 0)

    host.know(env).gate = slow_first

    async def main() -> list[Any]:
        return [result async for result in map_.aio(add, range(5), range(5))]

    assert await host.attempt(main) == [0, 2, 4, 6, 8]
    assert host.running_max == 5, "all at once"
    assert {call.group for call in host.calls} == {"maps.add_map"}


async def test_the_shortest_iterable_ends_the_map(host: Any) -> None:
    async def main() -> list[Any]:
        return [result async for result in map_.aio(add, itertools.count(), [1, 2])]

    assert await host.know(env).attempt(main) == [1, 3]


async def test_failures_come_as_values_by_default(host: Any) -> None:
    async def main() -> list[Any]:
        return [result async for result in map_.aio(add, [1, 13, 2])]

    one, error, two = await host.know(env).attempt(main)
    assert (one, two) == (101, 102)
    assert isinstance(error, ValueError)


async def test_the_first_failure_is_raised_when_asked_for_and_the_rest_is_cancelled(
    host: Any,
) -> None:
    all_run = asyncio.Event()

    async def fail_once_all_run(call: Any) -> None:
        if len(host.calls) == 3:
            all_run.set()
        await (asyncio.Event() if len(host.calls) > 1 else all_run).wait()

    host.know(env).gate = fail_once_all_run

    async def main() -> None:
        results = map_.aio(add, [13, 1, 2], return_exceptions=False)
        with pytest.raises(ValueError, match="unlucky"):
            await anext(results)
        assert len(host.aborted) == 2, "they are gone when the error is seen"

    await host.attempt(main)


async def test_concurrency_bounds_what_runs_and_what_is_taken_ahead(host: Any) -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield number if number != 13 else 14

    async def pause(call: Any) -> None:
        await asyncio.sleep(0)

    host.know(env).gate = pause

    async def main() -> int:
        total = 0
        async for result in map_.aio(add, source(), concurrency=3):
            assert taken <= total + 3 * 4 + 1
            assert isinstance(result, int)
            total += 1
        return total

    assert await host.attempt(main) == 200
    assert host.running_max == 3


async def test_leaving_a_map_early_cancels_what_runs(host: Any) -> None:
    async def hold(call: Any) -> None:
        if len(host.calls) > 1:
            await asyncio.Event().wait()

    host.know(env).gate = hold

    async def main() -> Any:
        results = map_.aio(add, range(4))
        first = await anext(results)
        await results.aclose()  # type: ignore[attr-defined]  # it is a generator
        return first

    assert await host.attempt(main) == 100
    assert len(host.aborted) == 3


async def test_the_consumer_of_a_map_is_not_in_its_group(host: Any) -> None:
    async def main() -> None:
        async for _ in map_.aio(add, [1], group_name="mine"):
            await double.aio(1)

    await host.know(env).attempt(main)
    assert [call.group for call in host.calls] == ["maps.add_mine", ""]


@pytest.mark.parametrize("task", [add, double])
async def test_a_sync_task_maps_in_parallel_from_its_thread(host: Any, task: Any) -> None:
    together = asyncio.Event()

    async def all_at_once(call: Any) -> None:
        if host.running == 4:
            together.set()
        await together.wait()

    host.know(env).gate = all_at_once

    def main() -> list[Any]:
        return list(map_(task, range(4)))

    async with asyncio.timeout(10):
        results = await host.attempt(main)
    assert results == [task.func(a) if task is double else 100 + a for a in range(4)]
    assert {call.group for call in host.calls} == {f"{task.name}_map"}


async def test_a_sync_map_bounds_raises_and_cancels_alike(host: Any) -> None:
    both = asyncio.Event()

    async def fail_once_both_run(call: Any) -> None:
        if len(host.calls) > 1:
            both.set()
            await asyncio.Event().wait()
        await both.wait()

    host.know(env).gate = fail_once_both_run

    def main() -> int:
        with pytest.raises(ValueError, match="unlucky"):
            list(map_(add, [13, *range(50)], concurrency=2, return_exceptions=False))
        return len(host.aborted)

    async with asyncio.timeout(10):
        assert await host.attempt(main) >= 1
    assert host.running_max <= 2
    assert host.running == 0


async def test_a_plain_map_in_async_code_is_refused_at_once(host: Any) -> None:
    async def main() -> None:
        with pytest.raises(SyncTaskCallInAsyncContextError, match=r"map\.aio"):
            map_(double, [1])

    await host.attempt(main)


async def test_a_partial_leaves_one_parameter_open(host: Any) -> None:
    async def main() -> list[Any]:
        mapped = map_.aio(functools.partial(three, 1, c=3), [5, 6])
        return [result async for result in mapped]

    assert await host.know(env).attempt(main) == [153, 163]


@pytest.mark.parametrize(
    ("bad", "iterables"),
    [
        (functools.partial(three, 1), 1),
        (functools.partial(three, 1, 2, 3), 1),
        (functools.partial(three, 1, b=2, c=3), 1),
        (functools.partial(three, 1, 2), 2),
        (functools.partial(three, a=1, b=2), 1),
        (functools.partial(len), 1),
        (len, 1),
    ],
)
def test_any_other_partial_is_a_type_error(bad: Any, iterables: int) -> None:
    with pytest.raises(TypeError):
        map_(bad, *([[1]] * iterables))
    with pytest.raises(TypeError):
        map_.aio(bad, *([[1]] * iterables))


def test_no_iterables_give_no_results() -> None:
    assert list(map_(double)) == []


def test_a_negative_concurrency_is_refused() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        map_(double, [1], concurrency=-1)


async def test_outside_of_a_run_tasks_are_called_plainly() -> None:
    assert list(map_(double, [1, 2])) == [2, 4]
    assert list(map_(add, [1, 2])) == [101, 102]
    assert [result async for result in map_.aio(double, [1, 2])] == [2, 4]
    failed = list(map_(add, [13]))
    assert isinstance(failed[0], ValueError)
    with pytest.raises(ValueError, match="unlucky"):
        list(map_(add, [13], return_exceptions=False))


async def test_a_map_makes_the_same_ids_in_every_attempt(host: Any) -> None:
    async def main() -> list[Any]:
        return [result async for result in map_.aio(double, [1, 1, 2], concurrency=1)]

    first = await host.know(env).attempt(main)
    assert await host.attempt(main, number=2) == first
    assert len(host.calls) == 3
