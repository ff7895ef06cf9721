"""Plans in the SDK: what is traced, refused, checked and drawn."""

import asyncio
import dataclasses
import math
import typing
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import millstream
from millstream._plan_fit import may_fit, wire_fits
from millstream._plan_wire import packed
from millstream._task import Task
from millstream.errors import (
    PlanCycleError,
    PlanError,
    PlanInputError,
    PlanTooLargeError,
    PlanTypeError,
    RuntimeDataValidationError,
    StaticControlFlowError,
)
from millstream_events.plans import Constant, Output, Raw, leaves, plan_flaw
from millstream_events.plans import PlanCall as WireCall

env = millstream.TaskEnvironment("plans")


class Named(typing.NamedTuple):
    count: int
    text: str


@dataclasses.dataclass
class Point:
    x: int


@env.task
async def number(n: int = 1) -> int:
    return n


@env.task
def pair(n: int) -> tuple[int, str]:
    return n, str(n)


@env.task
async def named(n: int) -> Named:
    return Named(n, str(n))


@env.task
async def listed(items: list[int]) -> list[int]:
    return items


@env.task
async def text(word: str) -> str:
    return word


@env.task(cache="auto")
async def nothing(value: object = None) -> None:
    del value


def traced(body: Callable[..., Any]) -> millstream.Plan:
    return millstream.plan(env.task(static=True)(body))


def refused_at(error: BaseException, line: str) -> bool:
    return f"{__file__}:" in str(error) and line in str(error)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "ask",
    [
        bool, len, list, str, int, float, repr and (lambda v: f"{v}"), abs, round, math.floor,
        lambda v: v + 1, lambda v: 1 - v, lambda v: -v, lambda v: v == 1, lambda v: v < 2,
        lambda v: 3 in v, lambda v: v[0], lambda v: v.real, lambda v: v(), lambda v: [*v],
        lambda v: v if v else None, lambda v: range(v), lambda v: setattr(v, "x", 1),
        lambda v: dict(v), lambda v: min(v, 2), lambda v: sorted([v, v]), lambda v: not v,
    ],
)  # fmt: skip
def test_asking_for_a_value_is_refused_at_its_line(ask: Callable[[Any], object]) -> None:
    async def asking(n: int) -> int:
        value = await number(n)
        ask(value)
        return value

    with pytest.raises(StaticControlFlowError, match="ordinary one"):
        traced(asking)


def test_the_refusal_names_file_line_and_text() -> None:
    async def branches(n: int) -> int:
        if n > 3:
            return await number(n)
        return await number(0)

    with pytest.raises(StaticControlFlowError) as caught:
        traced(branches)
    assert refused_at(caught.value, "if n > 3:")
    assert "the value of n is asked for (>)" in str(caught.value)


async def mixes_types() -> str:
    return await text(await number())  # type: ignore[arg-type]


async def constant_of_another_type() -> int:
    return await number("one")  # type: ignore[arg-type]


async def unknown_parameter() -> int:
    return await number(m=1)  # type: ignore[call-arg]


async def placeholder_in_a_set(n: int) -> list[int]:
    return await listed({await number(n)})  # type: ignore[arg-type]


async def element_that_is_not_there(n: int) -> str:
    return (await pair.aio(n))[2]  # type: ignore[return-value,misc]


async def gives_another_type() -> str:
    return await number()  # type: ignore[return-value]


async def coroutine_not_awaited() -> list[int]:
    return await listed(number.aio(1))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (mixes_types, PlanTypeError, "plans.text: word takes str, and number#1 gives int"),
        (constant_of_another_type, RuntimeDataValidationError, "int"),
        (unknown_parameter, RuntimeDataValidationError, "one of the parameters ['n']"),
        (placeholder_in_a_set, PlanError, "make it in a task"),
        (element_that_is_not_there, PlanError, "no element 2"),
        (gives_another_type, PlanTypeError, "the result"),
        (coroutine_not_awaited, PlanError, "await it"),
    ],
)
def test_what_can_never_work_is_refused_before_it_runs(
    body: Callable[..., Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as caught:
        traced(body)
    assert says in str(caught.value)


def test_static_tasks_that_call_one_another_without_end_are_refused() -> None:
    tasks: dict[str, Any] = {}

    @env.task(static=True)
    async def to_and(n: int) -> int:
        return await tasks["fro"](n)  # type: ignore[no-any-return]

    @env.task(static=True)
    async def fro(n: int) -> int:
        return await to_and(n)

    tasks["fro"] = fro
    with pytest.raises(PlanCycleError, match=r"to_and -> plans\.fro"):
        to_and.plan()  # type: ignore[attr-defined]


def test_more_calls_than_a_plan_may_have_are_refused() -> None:
    async def many() -> None:
        for n in range(5000):
            await number(n)

    with pytest.raises(PlanTooLargeError, match="4096"):
        traced(many)


@pytest.mark.parametrize(
    "settings",
    [
        {"retries": 2}, {"timeout": 5}, {"resources": millstream.Resources(cpu=1)},
        {"secrets": "k"}, {"env_vars": {"A": "b"}}, {"report": True}, {"idempotent": False},
    ],
)  # fmt: skip
def test_settings_of_attempts_are_refused_where_there_are_none(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="static task"):
        env.task(static=True, **settings)(mixes_types)


def test_a_static_task_that_yields_is_refused() -> None:
    async def yields() -> typing.AsyncIterator[int]:
        yield 1

    with pytest.raises(ValueError, match="yields"):
        env.task(static=True)(yields)


def test_inputs_of_a_plan_are_checked() -> None:
    with pytest.raises(PlanInputError, match="no parameter 'm'"):
        millstream.plan(number, m=2)
    plan = millstream.plan(number, n=2)
    with pytest.raises(PlanInputError, match="fixed"):
        plan.encode_inputs((), {"n": 3}, millstream._values_sink.Sink())  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="takes a task"):
        millstream.plan(5)  # type: ignore[arg-type]


def test_a_nested_static_task_with_settings_of_its_own_is_refused() -> None:
    @env.task(static=True, cache="auto")
    async def inner() -> int:
        return await number()

    async def outer() -> int:
        return await inner()

    with pytest.raises(PlanError, match="its own cache"):
        traced(outer)


# ------------------------------------------------------------------ what is traced


def test_elements_of_tuples_and_named_tuples_go_their_own_ways() -> None:
    async def body(n: int) -> Named:
        count, word = await pair.aio(n)
        found = await named(count)
        await text(word)
        await text(found.text)
        return Named(found[0], (await pair.aio(3))[-1])

    plan = traced(body)
    taken = [
        [leaf for leaf in leaves(node.inputs) if isinstance(leaf, Output)]
        for node in plan.traced.nodes
    ]
    assert taken[1:4] == [[Output(0, (0,))], [Output(0, (1,))], [Output(1, ("text",))]]
    assert plan.gives == "(named#2.count, pair#5[1])"


def test_calling_a_static_task_outside_of_a_run_runs_its_function() -> None:
    @env.task(static=True)
    async def body(n: int) -> list[int]:
        return await listed([await number(n), 3])

    assert asyncio.run(body(2)) == [2, 3]


def test_constants_that_are_given_may_steer_the_code_and_tracing_works_inside_a_loop() -> None:
    @env.task
    async def body(n: int, m: int) -> int:
        for _ in range(n):
            m = await number(m)
        return m

    async def inside() -> millstream.Plan:
        return millstream.plan(body, n=3)

    plan = asyncio.run(inside())
    assert (len(plan.nodes), list(plan.inputs)) == (3, ["m"])
    assert plan.digest != millstream.plan(body, n=2).digest
    assert plan.digest == millstream.plan(body, n=3).digest


def wire_of(plan: millstream.Plan) -> Any:
    return packed(plan, lambda task: (task.ref(), task.policy()))


def test_a_plan_holds_each_task_once_and_large_constants_beside_it() -> None:
    async def body() -> None:
        for n in range(300):
            await nothing("x" * (10 if n % 2 else 1000))
        await nothing()

    found = wire_of(traced(body))
    assert len(found.value.callees) == 2
    parts = {type(leaf) for node in found.value.nodes for leaf in leaves(node.inputs)}
    assert parts == {Raw, Constant}
    assert found.uploads == ()
    assert plan_flaw(WireCall(found.value)) == ""


def test_a_plan_that_is_too_large_for_one_event_is_refused_with_advice() -> None:
    async def body() -> list[int]:
        found = [await number(n) for n in range(900)]
        return [n for _ in range(20) for n in found]

    with pytest.raises(PlanTooLargeError, match="several static tasks"):
        wire_of(traced(body))


# ------------------------------------------------------------------ fitting


@pytest.mark.parametrize(
    ("source", "target", "fits", "same_bytes"),
    [
        (int, int, True, True),
        (int, float, True, False),
        (bool, int, True, True),
        (float, int, False, False),
        (int, str, False, False),
        (int, int | None, True, True),
        (int, int | str, True, True),
        (str, int | None, False, False),
        (None, int | None, True, True),
        (int | None, int, True, False),
        (list[int], list[int], True, True),
        (list[int], list[str], False, False),
        (list[int], Sequence[int], True, False),
        (list[int], object, True, True),
        (tuple[int, str], object, True, False),
        (tuple[int, str], tuple[int, ...], False, False),
        (dict[str, int], dict[str, float], True, False),
        (dict[str, int], list[int], False, False),
        (Point, Point, True, True),
        (Point, Any, True, False),
        (Any, Point, True, False),
        (dict[str, int], Point, True, False),
        (Point, int, False, False),
        (typing.Literal["a"], str, True, False),
        (bytes, str, False, False),
        (millstream.io.File, millstream.io.File, True, True),
        (millstream.io.File, object, True, True),
    ],
)
def test_whether_values_fit_is_known_from_their_annotations(
    source: object, target: object, fits: bool, same_bytes: bool
) -> None:
    assert may_fit(source, target) is fits
    if fits:
        assert wire_fits(source, target) is same_bytes


# ------------------------------------------------------------------ drawings


def plan_of_drawn() -> millstream.Plan:
    async def body(n: int, word: str = 'say "w"') -> list[int]:
        with millstream.group("all of it"):
            count, _ = await pair.aio(n)
        await text(word)
        return await listed([count, 5])

    return traced(body)


def test_a_plan_is_drawn_as_text() -> None:
    assert str(plan_of_drawn()).splitlines() == [
        "plans.body(n: int, word: str): 3 nodes, 1 edges",
        "  pair#1    (n=n)  [all of it]",
        "  text#2    (word=word)",
        "  listed#3  (items=[pair#1[0], 5])",
        "  -> listed#3",
    ]


def test_a_plan_is_drawn_as_a_flow_chart() -> None:
    lines = plan_of_drawn().mermaid().splitlines()
    assert lines[0] == "flowchart TD"
    for line in ("    n1 --> n3", "    i0 --> n1", "    i1 --> n2", "    n3 --> out"):
        assert line in lines
    assert '    subgraph g0["all of it"]' in lines


def test_a_plan_is_drawn_as_an_image_for_notebooks() -> None:
    plan = plan_of_drawn()
    root = ET.fromstring(plan.svg())
    assert len(root.findall("{http://www.w3.org/2000/svg}g")) == 3
    assert set(plan._repr_mimebundle_()) == {"text/plain", "image/svg+xml"}


def test_a_plan_is_plain_values_for_programs() -> None:
    found = plan_of_drawn().as_dict()
    assert found["edges"] == [["pair#1", "listed#3"]]
    assert [node["task"] for node in found["nodes"]] == ["plans.pair", "plans.text", "plans.listed"]
    assert __file__ in found["nodes"][0]["place"]


def test_a_static_task_is_a_task_as_any_other() -> None:
    @env.task(static=True)
    async def body(n: int) -> int:
        return await number(n)

    assert isinstance(body, Task)
    assert body.interface.output_names == ("o0",)
    assert body.override(queue="q").policy().queue == "q"
