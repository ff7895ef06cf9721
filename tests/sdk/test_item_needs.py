"""What a function names says whether its calls may share an action."""

import functools
import json
import math
import sys
from collections.abc import Callable
from typing import Any

import pytest

import millstream
from millstream import ctx
from millstream import errors as flyte_errors
from millstream._item_needs import needs_action

env = millstream.TaskEnvironment("needs")


@env.task
async def other(n: int) -> int:
    return n


@millstream.trace
def step(n: int) -> int:
    return n


def plain_part(n: int) -> int:
    return n + 1


def calling_part(n: int) -> Any:
    return other(n)


class Model:
    def fit(self, n: int) -> Any:
        return step(n)


def computes(n: int) -> float:
    return math.sqrt(plain_part(n)) + len(json.dumps([n]))


def raises(n: int) -> int:
    if n:
        raise millstream.errors.NonRecoverableError("no")
    raise flyte_errors.RuntimeUserError("x", "y")


def logs(n: int) -> int:
    millstream.logger.info("here %s", n)
    return n


def itself(n: int) -> int:
    return itself(n - 1) if n else 0


def calls(n: int) -> Any:
    return other(n)


def forwards(n: int) -> Any:
    return other.forward(n)


def traces(n: int) -> int:
    return step(n)


def asks(n: int) -> str:
    return f"{n} {ctx().action}"


def asks_by_module(n: int) -> str:
    return f"{n} {millstream.ctx().action}"


def calls_in_a_lambda(n: int) -> Any:
    return [(lambda k: other(k))(k) for k in range(n)]


def calls_further_down(n: int) -> Any:
    return calling_part(n)


def uses_a_class(n: int) -> Any:
    return Model().fit(n)


def imports(n: int) -> Any:
    from millstream import map as mapped

    return list(mapped(other, range(n)))


def makes_a_file(n: int) -> Any:
    return millstream.io.File.new_remote(str(n))


def sleeps(n: int) -> Any:
    return millstream.durable.sleep(n)


def closes_over() -> Callable[[int], Any]:
    inner = other

    def inside(n: int) -> Any:
        return inner(n)

    return inside


def hides(n: int) -> Any:
    return sys.modules["milli" + "stream"].ctx().action, n


@pytest.mark.parametrize("function", [computes, raises, itself, hides, len, plain_part])
def test_code_that_names_nothing_of_ours_needs_no_action(function: Callable[..., Any]) -> None:
    assert not needs_action(function)


@pytest.mark.parametrize(
    "function",
    [
        calls,
        forwards,
        traces,
        asks,
        asks_by_module,
        calls_in_a_lambda,
        calls_further_down,
        uses_a_class,
        imports,
        makes_a_file,
        sleeps,
        closes_over(),
        functools.partial(plain_part, other),
    ],
)
def test_code_that_names_tasks_traces_or_its_context_does(function: Callable[..., Any]) -> None:
    assert needs_action(function)


def test_lines_in_the_log_need_no_action_once_the_logger_is_there() -> None:
    assert millstream.logger.name
    assert not needs_action(logs)
