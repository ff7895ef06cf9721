"""What programs and unit tests read of tasks and environments, as in Flyte."""

import pickle
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import pytest

import millstream as flyte
from millstream._documentation import Docstring
from millstream._environment_fields import list_loaded_environments
from millstream.models import ActionPhase, NativeInterface

env = flyte.TaskEnvironment("shown", env_vars={"A": "1"}, description="d" * 300)


class Pair(NamedTuple):
    left: int
    right: str


@env.task(retries=3, timeout=5, docs=flyte.Documentation("Scales."), report=False)
async def scale(value: float, by: int = 2, how: Literal["up", "down"] = "up") -> float:
    """Scale a value.

    Args:
        value: What is scaled.
        by: How much,
            in all.
    """
    return value * by


@env.task
def pair(n: int | None = None) -> Pair:
    return Pair(n or 0, "")


@env.task
def nothing() -> None:
    pass


def test_a_task_shows_its_settings() -> None:
    assert isinstance(scale, flyte.TaskTemplate)
    assert isinstance(pair, flyte.AsyncFunctionTaskTemplate)
    assert scale.retries == flyte.RetryStrategy(3)
    assert scale.timeout == 5
    assert scale.docs == flyte.Documentation(description="Scales.")
    assert (scale.resources, scale.env_vars, scale.queue) == (None, {"A": "1"}, None)
    assert (scale.reusable, scale.secrets, scale.pod_template) == (None, None, None)
    assert (scale.links, scale.triggers, scale.report) == ((), (), False)
    assert (scale.entrypoint, scale.interruptible, scale.plugin_config) == (False, False, None)
    assert (scale.task_type, scale.max_inline_io_bytes) == ("python", 10 * 1024 * 1024)
    assert scale.parent_env is not None
    assert scale.parent_env() is env
    assert (scale.parent_env_name, scale.source_file) == ("shown", __file__)
    assert scale.func(2.0, 3).close() is None


def test_a_task_has_no_attribute_that_nobody_knows() -> None:
    with pytest.raises(AttributeError, match="did you mean 'retries'"):
        scale.retrys  # noqa: B018
    assert not hasattr(scale, "_private")


def test_the_interface_shows_inputs_outputs_and_what_is_said_of_them() -> None:
    interface = scale.native_interface
    assert interface is scale.interface
    assert isinstance(interface, NativeInterface)
    assert interface.inputs["by"] == (int, 2)
    assert interface.required_inputs() == ["value"]
    assert interface.num_required_inputs() == 1
    assert interface.outputs == {"o0": float}
    assert interface.has_outputs()
    assert pair.interface.outputs == {"left": int, "right": str}
    assert nothing.interface.outputs == {}
    assert interface.docstring is not None
    assert interface.docstring.input_descriptions == {
        "value": "What is scaled.",
        "by": "How much,\nin all.",
    }
    assert interface.docstring.short_description == "Scale a value."
    assert interface.convert_to_kwargs(1.0, how="up") == {"value": 1.0, "how": "up"}
    with pytest.raises(ValueError, match="Too many positional"):
        interface.convert_to_kwargs(1, 2, 3, 4)
    assert repr(pair.interface) == "(n: int | None = None) -> (left: int, right: str):"
    assert scale.json_schema["properties"]["how"] == {"type": "string", "enum": ["up", "down"]}
    assert scale.json_schema["required"] == ["value"]


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("Do.\n\nParameters\n----------\na : int\n    first\nb\n    second", ["first", "second"]),
        ("Do.\n\n:param a: first\n:param int b: second\n:return: c", ["first", "second"]),
        ("Do.\n\nArgs:\n    a (int): first\n    b: second\n", ["first", "second"]),
        ("Do.", []),
        ("", []),
    ],
)
def test_docstrings_of_three_styles_tell_of_inputs(text: str, inputs: list[str]) -> None:
    assert list(Docstring(text).input_descriptions.values()) == inputs


def test_override_takes_whatever_a_task_has_and_can_take_it_away() -> None:
    changed = scale.override(
        short_name="S", retries=0, timeout=timedelta(seconds=9), env_vars={}, entrypoint=True
    )
    assert (changed.short_name, changed.retries.count) == ("S", 0)
    assert (changed.timeout, changed.env_vars, changed.entrypoint) == (
        timedelta(seconds=9), None, True,
    )  # fmt: skip
    assert changed.override(entrypoint=False).entrypoint is False
    assert scale.retries.count == 3
    with pytest.raises(TypeError, match="did you mean 'timeout'"):
        scale.override(timeuot=3)


def test_a_task_keeps_its_settings_when_pickled() -> None:
    back = pickle.loads(pickle.dumps(scale.override(retries=1)))
    assert (back.retries.count, back.name, back.docs) == (1, "shown.scale", scale.docs)


def test_a_plain_call_outside_a_run_raises_both_classes_as_flyte_does() -> None:
    @env.task
    def fails() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError) as caught:
        fails()
    assert isinstance(caught.value, flyte.errors.RuntimeUserError)
    assert (caught.value.code, str(caught.value)) == ("LookupError", "no")
    assert type(caught.value.__cause__) is LookupError
    with pytest.raises(LookupError) as plain:
        fails.forward()
    assert type(plain.value) is LookupError


async def test_generators_are_called_plainly_outside_a_run() -> None:
    @env.task
    async def count(to: int) -> AsyncIterator[int]:
        for n in range(to):
            yield n

    @env.task
    def letters(word: str) -> Iterator[str]:
        yield from word

    assert [n async for n in count(2)] == [0, 1]
    assert list(letters("ab")) == ["a", "b"]
    assert [each async for each in letters.aio("c")] == ["c"]
    assert await count.aio(3) == [0, 1, 2]
    assert count.interface.outputs == {"o0": list[int]}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"image": 3}, "image"),
    ({"resources": 3}, "resources"),
    ({"env_vars": [1]}, "env_vars"),
    ({"secrets": 4}, "secrets"),
    ({"service_account": 3}, "service_account"),
    ({"depends_on": [1]}, "depends_on"),
    ({"include": "a"}, "include"),
    ({"pod_template": 4}, "pod_template"),
    ({"cache": 4}, "cache"),
    ({"reusable": 4}, "reusable"),
    ({"imag": "x"}, "did you mean 'image'"),
]


@pytest.mark.parametrize(("settings", "text"), WRONG, ids=str)
def test_a_setting_of_the_wrong_kind_is_a_type_error(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        flyte.TaskEnvironment("wrong", **settings)


def test_environments_are_known_in_the_order_in_which_they_are_declared() -> None:
    first, second = flyte.TaskEnvironment("a-1"), flyte.TaskEnvironment("a-2")
    known = list_loaded_environments()
    assert known.index(first) < known.index(second)
    assert isinstance(first, flyte.Environment)
    with pytest.raises(TypeError, match="Expected Environment"):
        first.add_dependency(3)  # type: ignore[arg-type]  # wrong on purpose


def test_phases_are_equal_to_flytes_words() -> None:
    assert ActionPhase.SUCCEEDED == "succeeded"
    assert ActionPhase("timed_out").is_terminal
    assert not ActionPhase.PAUSED.is_terminal
    assert ActionPhase.RECOVERED.to_protobuf_name() == "ACTION_PHASE_RECOVERED"
