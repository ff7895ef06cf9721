"""What programs match on: words of errors, and views of a task, are those of Flyte 2.12.1."""

import enum
import functools
import inspect
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, NamedTuple, get_type_hints

import pytest

import millstream
from millstream import models
from millstream.io import File
from millstream.syncify import Syncify
from millstream.types import TypeTransformerFailedError

env = millstream.TaskEnvironment("phrases")


@env.task
async def one(x: int, y: int = 2) -> int:
    return x + y


@env.task
def three(a: int, b: str, c: float) -> str:
    return f"{a}{b}{c}"


class Pair(NamedTuple):
    left: int
    right: str = "r"


def declared(**settings: Any) -> object:
    return env.task(**settings)(three.func)


def mapped(*args: object, **kwargs: object) -> list[object]:
    return list(millstream.map(functools.partial(three, *args, **kwargs), [1]))


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: millstream.Cache("x"), ValueError, "Invalid cache behavior: 'x'. Must be one of"),
        (lambda: millstream.Cache("auto").get_version(), ValueError,
         "Version parameters must be provided when version_override is not set"),
        (lambda: millstream.Cache("auto", max_age="x"), TypeError,
         "max_age must be an int (seconds), timedelta, or None"),
        (lambda: millstream.Cache("auto", max_age=-1), ValueError, "max_age must be nonnegative"),
        (lambda: millstream.Backoff(base=-SECOND), ValueError, "Backoff.base must be >= 0, got"),
        (lambda: millstream.Backoff(base=SECOND, cap=-SECOND), ValueError,
         "Backoff.cap must be >= 0, got"),
        (lambda: millstream.Backoff(base=SECOND, factor=float("nan")), ValueError,
         "Backoff.factor must be a finite number, got nan"),
        (lambda: millstream.Backoff(base=SECOND, factor="x"), ValueError,
         "Backoff.factor must be a finite number, got 'x'"),
        (lambda: millstream.Backoff(base=SECOND, factor=0.5), ValueError,
         "Backoff.factor must be >= 1.0, got 0.5"),
        (lambda: millstream.Backoff(base=SECOND, factor=2.0), ValueError,
         "Backoff.cap is required when factor > 1.0"),
        (lambda: millstream.RetryStrategy("3"), ValueError,
         "RetryStrategy.count must be an int (a retry count), got '3'"),
        (lambda: millstream.RetryStrategy(-1), ValueError,
         "RetryStrategy.count must be greater than or equal to 0, got -1"),
        (lambda: declared(retries="x"), ValueError, "retries must be an int (a retry count) or a"),
        (lambda: declared(nope=3), TypeError, "got an unexpected keyword argument 'nope'"),
        (lambda: one.override(nope=3), TypeError, "got an unexpected keyword argument 'nope'"),
        (lambda: declared(service_account=3), TypeError,
         "Expected service_account to be of type str, got <class 'int'>"),
        (lambda: one.override(plugin_config=object()), ValueError,
         "No task plugin found for config type <class 'object'>"),
        (lambda: millstream.TaskEnvironment.from_task("other", one), ValueError,
         "Tasks cannot assigned to multiple environments."),
        (lambda: mapped(1, "b", 2.0), TypeError, "must leave exactly one parameter unspecified"),
        (lambda: mapped(1), TypeError, "must leave exactly one parameter unspecified"),
        (lambda: mapped(1, a=2), TypeError,
         "provided both as positional argument and keyword argument"),
        (lambda: models.PathRewrite.from_str("a"), ValueError, "Invalid path rewrite pattern: a."),
        (lambda: models.CodeBundle(computed_version="v"), ValueError,
         "Either tgz or pkl must be provided"),
        (lambda: models.literal_to_enum(int), TypeError, "is not a Literal"),
        (lambda: models.NativeInterface.from_types(
            {"x": (int, models.NativeInterface.has_default)}, {}), ValueError,
         "Input x has a default value but no default input provided for remote task."),
        (lambda: one.interface.convert_to_kwargs(1, 2, 3), ValueError,
         "Too many positional arguments provided, expected inputs"),
        (lambda: Syncify()(lambda: 1), TypeError,
         "Syncify can only be applied to async functions, async generators, async classmethods"),
        (lambda: File.from_local_sync("/nowhere/at/all"), ValueError,
         "File not found: /nowhere/at/all"),
        (lambda: one.interface.encode_inputs((), {}), ValueError, "Missing required inputs: x"),
        (lambda: one.interface.encode_inputs(("a",), {}), TypeTransformerFailedError, "x"),
    ],
)  # fmt: skip
def test_an_error_has_the_class_and_the_words_of_flyte(
    call: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_a_plain_call_that_does_not_fit_is_an_error_of_both_kinds() -> None:
    with pytest.raises(millstream.errors.RuntimeUserError) as caught:
        one(1, 2, 3)  # type: ignore[call-arg]  # wrong on purpose
    assert isinstance(caught.value, TypeError)
    assert caught.value.code == "TypeError"


def test_an_environment_keeps_its_cache_as_it_was_written() -> None:
    cached = millstream.TaskEnvironment("cached", cache="auto")
    assert (cached.cache, cached.clone_with("other").cache) == ("auto", "auto")
    assert cached.task(three.func).cache == millstream.Cache("auto")


def test_an_interface_shows_a_literal_as_an_enum_and_takes_its_words() -> None:
    level = Literal["low", "high"]

    @env.task
    async def choose(level: level = "low") -> tuple[level, str]:  # type: ignore[valid-type]
        return level, level

    shown = choose.interface
    assert repr(shown) == "(level: LiteralEnum = low) -> (o0: LiteralEnum, o1: str):"
    hint, default = shown.inputs["level"]
    assert issubclass(hint, enum.Enum)
    assert ([member.value for member in hint], default) == (["low", "high"], "low")
    assert shown.json_schema["properties"]["level"]["enum"] == ["low", "high"]
    assert shown.decode_call(*shown.encode_inputs(("high",), {})) == (("high",), {})
    assert models.NativeInterface.from_callable(choose.func).inputs["level"] == (hint, "low")


def test_two_types_in_parentheses_are_two_outputs() -> None:
    def old() -> (int, str):  # type: ignore[syntax]
        return 1, "a"

    task = env.task(old)
    assert task.interface.outputs == {"o0": int, "o1": str}
    codec, content = task.interface.encode_output((1, "a"))
    assert task.interface.decode_output(codec, content) == (1, "a")


@pytest.mark.parametrize(
    ("annotation", "outputs"),
    [
        (None, {}),
        (int, {"o0": int}),
        (tuple[int, str], {"o0": int, "o1": str}),
        (Pair, {"left": int, "right": str}),
    ],
)
def test_outputs_of_an_annotation(annotation: object, outputs: dict[str, object]) -> None:
    assert models.extract_return_annotation(annotation) == outputs


@pytest.mark.parametrize("annotation", ["int", tuple[int], tuple[int, ...], (int,)])
def test_an_annotation_that_flyte_refuses(annotation: object) -> None:
    with pytest.raises(TypeError):
        models.extract_return_annotation(annotation)


def test_a_plain_tuple_stands_for_a_named_one() -> None:
    @env.task
    async def right(pair: Pair) -> str:
        return pair.right

    shown = right.interface
    assert shown.decode_call(*shown.encode_inputs(((1, "b"),), {})) == ((Pair(1, "b"),), {})
    assert shown.decode_call(*shown.encode_inputs(((1,),), {})) == ((Pair(1, "r"),), {})
    with pytest.raises(ValueError, match="pair"):
        shown.encode_inputs(((1, "b", 2),), {})


def test_loggers_are_named_after_the_package_and_the_core_is_silent() -> None:
    assert (millstream.logger.name, millstream.system_logger.name) == (
        "millstream.user",
        "millstream",
    )
    assert logging.getLogger("millstream.user") is millstream.logger
    core = logging.getLogger("millstream")
    assert core is not millstream.system_logger
    assert all(isinstance(handler, logging.NullHandler) for handler in core.handlers)


def test_loggers_show_their_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (millstream.logger.level, millstream.system_logger.level) == (20, 30)
    monkeypatch.setenv("USER_LOG_LEVEL", "debug")
    assert millstream.logger.level == 10
    millstream.logger.setLevel("ERROR")
    try:
        assert millstream.logger.level == 40
    finally:
        millstream.logger.setLevel(0)


def test_models_are_the_ones_that_a_context_hands_out() -> None:
    hints = get_type_hints(type(millstream.ctx()).raw_data_path.fget)
    assert hints["return"] == models.RawDataPath | None
    counter = models.CallCounter()
    assert [counter.next("a"), counter.next("b"), counter.next("a")] == [1, 1, 2]
    assert models.generate_random_name() != models.generate_random_name()
    assert repr(millstream.ctx()) == "NullTaskContext()"
    assert millstream.ctx().attempt_number == 0


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (millstream.map.__call__, ["func", "args", "group_name", "concurrency",
                                   "return_exceptions"]),
        (millstream.trace, ["func"]),
        (millstream.syncify.syncify.__call__, ["obj"]),
    ],
)  # fmt: skip
def test_parameters_have_the_names_of_flyte(
    function: Callable[..., object], names: list[str]
) -> None:
    # What Millstream adds comes behind.
    assert list(inspect.signature(function).parameters)[: len(names)] == names
