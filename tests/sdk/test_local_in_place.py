"""Local mode runs the caller's own functions, also those that no name leads to."""

import functools
import threading
from typing import Any

import pytest

import millstream
from millstream import _pickling
from millstream._live_tasks import live_task, live_token

env = millstream.TaskEnvironment("in_place")


def run_local(task: Any, *args: Any) -> Any:
    return millstream.with_runcontext(mode="local").run(task, *args).outputs()[0]


def test_what_a_task_closes_over_is_the_caller_s_own() -> None:
    seen: list[int] = []
    count = 0
    lock = threading.Lock()  # Nothing could pickle it.

    @env.task(retries=1)
    async def child(x: int) -> int:
        nonlocal count
        with lock:
            count += 1
        if count == 1:
            raise ValueError("once more")
        seen.append(x)
        return x

    @env.task
    def parent() -> list[int]:
        return [*millstream.map(child, [1, 2]), count]

    assert run_local(parent) == [1, 2, 3]
    assert (sorted(seen), count) == ([1, 2], 3)


def test_a_task_declared_again_is_the_new_one() -> None:
    def declared(number: int) -> Any:
        @env.task
        async def again() -> int:
            return number

        return again

    assert [run_local(declared(number)) for number in (1, 2)] == [1, 2]


def test_a_trace_declared_in_a_function_runs_in_place_and_travels_by_value() -> None:
    factor = 3

    @millstream.trace
    async def times(x: int) -> int:
        return x * factor

    @env.task
    async def tripled(x: int) -> int:
        return await times(x)

    assert run_local(tripled, 2) == 6
    copy = _pickling.load(_pickling.dump(tripled)[1])
    assert run_local(copy, 3) == 9


def test_a_decorator_around_a_trace_travels_too() -> None:
    def doubled(function: Any) -> Any:
        @functools.wraps(function)
        def around(*args: Any) -> Any:
            return 2 * function(*args)

        return around

    @doubled
    @millstream.trace
    def plain(x: int) -> int:
        return x

    assert _pickling.load(_pickling.dump(plain)[1])(4) == 8


def test_a_token_leads_to_its_task_as_long_as_somebody_holds_it() -> None:
    @env.task
    async def short_lived() -> None: ...

    token = live_token(short_lived)
    assert live_token(short_lived) == token
    assert live_task(token) is short_lived
    env.tasks.pop(short_lived.name)
    del short_lived
    assert live_task(token) is None


@pytest.mark.parametrize("kind", ["async", "sync", "generator"])
def test_postponed_annotations_travel_with_a_function(kind: str) -> None:
    spaces: dict[str, Any] = {"millstream": millstream, "Fact": set, "env": env}
    body = {
        "async": "@env.task\nasync def f(x: Fact) -> Fact: return x",
        "sync": "@env.task\ndef f(x: Fact) -> Fact: return x",
        "generator": "@millstream.trace\ndef f(x: Fact) -> Fact: yield x",
    }[kind]
    exec(f"from __future__ import annotations\n{body}", spaces)
    copy = _pickling.load(_pickling.dump(spaces["f"])[1])
    function = getattr(copy, "func", getattr(copy, "__wrapped__", None))
    assert "Fact" not in function.__globals__
    assert function.__annotations__ == {"x": set, "return": set}


@pytest.mark.parametrize("name", [None, "a-run-by-name"])
def test_a_task_sees_the_name_of_its_run(name: str | None) -> None:
    @env.task
    def named() -> list[str]:
        return [str(millstream.ctx().action.run_name)]

    run = millstream.with_runcontext(mode="local", name=name).run(named)
    assert run.outputs()[0] == [run.name]
    assert name in (None, run.name)
