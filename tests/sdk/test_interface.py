"""How calls become bytes."""

import dataclasses
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest

from millstream._interface import Interface
from millstream._values import inputs_hash
from millstream.errors import ResultNotSerializableError, RuntimeDataValidationError


@dataclasses.dataclass
class Item:
    size: int = 0


class Two(NamedTuple):
    first: int
    second: str


def every_kind(a: int, /, b: str = "", *rest: float, c: bool = False, **more: int) -> None: ...


def lazy(x: "Later", y: "list[Later] | None" = None) -> "Later":
    return x


@dataclasses.dataclass
class Later:
    n: int


def defaults(zero: int = 0, empty: str = "", no: bool = False, none: int = None) -> int:  # type: ignore[assignment]  # noqa: RUF013
    return zero


def bare(x, y=1):  # type: ignore[no-untyped-def]
    return x


def nothing() -> None: ...


def round_trip(
    func: Callable[..., object], *args: object, **kwargs: object
) -> tuple[tuple[object, ...], dict[str, object]]:
    interface = Interface.of(func)
    encoded = interface.encode_inputs(args, kwargs)
    assert encoded is not None
    return interface.decode_call(*encoded)


@pytest.mark.parametrize(
    ("func", "args", "kwargs", "back"),
    [
        (every_kind, (1,), {}, ((1, ""), {"c": False})),
        (every_kind, (1, "x", 2, 3.0), {"z": 1}, ((1, "x", 2.0, 3.0), {"c": False, "z": 1})),
        (every_kind, (1,), {"b": "y", "c": True, "a": 5}, ((1, "y"), {"c": True, "a": 5})),
        (lazy, (Later(1),), {}, ((Later(1), None), {})),
        (lazy, ({"n": 1}, [{"n": 2}]), {}, ((Later(1), [Later(2)]), {})),
        (defaults, (), {}, ((0, "", False, None), {})),
        (bare, ((1, {2}),), {}, (((1, {2}), 1), {})),
    ],
)
def test_a_call_comes_back_as_it_was_made(
    func: Callable[..., object], args: Any, kwargs: Any, back: Any
) -> None:
    decoded = round_trip(func, *args, **kwargs)
    assert decoded == back
    assert repr(decoded) == repr(back)


def test_a_default_given_or_left_out_is_the_same_call() -> None:
    def f(a: int, b: list[int] | None = None, c: float = 1.0) -> None: ...

    interface = Interface.of(f)
    calls = [((1,), {}), ((1, None), {}), ((), {"c": 1.0, "a": 1}), ((1,), {"c": 1, "b": None})]
    hashes = {inputs_hash(interface.encode_inputs(*call)[1]) for call in calls}  # type: ignore[index]
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "every_kind: Missing required inputs: a: expected a value, got none"),
        (("x",), {}, "every_kind: a: expected int, got str 'x'"),
        ((1, "b", "c"), {}, r"rest\[0\]: expected float"),
        ((1, "b"), {"b": "c"}, "b: expected one value, got two"),
        ((1,), {"z": "c"}, r"more\['z'\]: expected int"),
    ],
)
def test_a_call_that_does_not_fit_names_what_is_wrong(args: Any, kwargs: Any, text: str) -> None:
    with pytest.raises(RuntimeDataValidationError, match=text):
        Interface.of(every_kind).encode_inputs(args, kwargs)


def test_an_unknown_parameter_is_answered_with_the_nearest_name() -> None:
    interface = Interface.of(defaults)
    with pytest.raises(RuntimeDataValidationError, match="did you mean 'empty'"):
        interface.bind((), {"emty": "x"})
    with pytest.raises(RuntimeDataValidationError, match="at most 4 by position, got 5"):
        interface.bind((1, 2, 3, 4, 5), {})


def test_a_function_without_parameters_has_no_inputs() -> None:
    interface = Interface.of(nothing)
    assert interface.encode_inputs((), {}) is None
    assert interface.decode_call("", None) == ((), {})


def test_inputs_of_an_older_function_get_the_new_defaults() -> None:
    def old(a: int) -> None: ...
    def new(a: int, b: str = "n") -> None: ...

    encoded = Interface.of(old).encode_inputs((1,), {})
    assert encoded is not None
    assert Interface.of(new).decode_call(*encoded) == ((1, "n"), {})
    newer = Interface.of(new).encode_inputs((1,), {})
    assert newer is not None
    with pytest.raises(RuntimeDataValidationError, match="'b'"):
        Interface.of(old).decode_call(*newer)


def test_a_result_needs_a_return_annotation() -> None:
    def silent(): ...  # type: ignore[no-untyped-def]

    for func in (silent, nothing):
        assert Interface.of(func).encode_output(None) is None
        with pytest.raises(RuntimeDataValidationError, match="no return annotation"):
            Interface.of(func).encode_output(0)


def test_a_result_is_checked_against_its_annotation() -> None:
    def f() -> int: ...  # type: ignore[empty-body]

    interface = Interface.of(f)
    assert interface.decode_output(*interface.encode_output(0)) == 0  # type: ignore[misc]
    for wrong in (None, "x"):
        with pytest.raises(RuntimeDataValidationError, match="result: expected int"):
            interface.encode_output(wrong)


def test_a_result_that_cannot_be_sent_is_refused_as_such() -> None:
    def f() -> object: ...

    with pytest.raises(ResultNotSerializableError, match="generator"):
        Interface.of(f).encode_output(x for x in [1])


def a() -> tuple[int, Item]: ...  # type: ignore[empty-body]
def b() -> Two: ...  # type: ignore[empty-body]
def c() -> tuple[int, ...]: ...  # type: ignore[empty-body]
def d() -> list[int] | None: ...


@pytest.mark.parametrize(
    ("func", "names", "value"),
    [
        (a, ("o0", "o1"), (1, Item(2))),
        (b, ("first", "second"), Two(1, "x")),
        (c, ("o0",), (1, 2)),
        (d, ("o0",), [1]),
        (d, ("o0",), None),
        (nothing, (), None),
    ],
)
def test_outputs_have_names_and_come_back(
    func: Callable[..., object], names: tuple[str, ...], value: object
) -> None:
    interface = Interface.of(func)
    assert interface.output_names == names
    codec, content = interface.encode_output(value) or ("", None)
    back = interface.decode_output(codec, content)
    assert back == value
    assert type(back) is type(value)


def test_an_annotation_that_cannot_be_resolved_is_named() -> None:
    def f(x: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(RuntimeDataValidationError, match="Nowhere"):
        Interface.of(f).encode_inputs((1,), {})


def test_the_kind_of_function_is_known() -> None:
    async def coroutine() -> None: ...
    async def stream() -> AsyncIterator[int]:
        yield 1

    assert Interface.of(coroutine).is_async
    assert not Interface.of(stream).is_async
    assert Interface.of(stream).is_generator
    assert not Interface.of(nothing).is_generator


def test_the_digest_changes_with_types_and_not_with_defaults() -> None:
    def one(x: Item, y: int = 1) -> int: ...  # type: ignore[empty-body]
    def two(x: Item, y: int = 2) -> int: ...  # type: ignore[empty-body]
    def three(x: Item, y: float = 1) -> int: ...  # type: ignore[empty-body]
    def four(x: Item, *, y: int = 1) -> int: ...  # type: ignore[empty-body]

    digests = [Interface.of(f).digest for f in (one, two, three, four)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


SCRIPT = """
import dataclasses, enum, typing
from millstream._interface import Interface
from millstream._identity import task_identity
from millstream._values import inputs_hash
@dataclasses.dataclass
class P:
    x: int
    s: set[str]
class K:
    def __init__(self, p): self.p = p
def f(p: P, k: typing.Literal["a", "b"], u: int | None, z: typing.Any = None) -> dict[str, P]:
    return {k in {"x", "y", "z"}: p}
i = Interface.of(f)
content = i.encode_inputs((P(1, {"a", "b", "c"}), "a", 1, K(P(1, {"a"}))), {})[1]
print(i.digest.hex(), task_identity("t", i, f).hex(), inputs_hash(content).hex())
"""


def test_digest_identity_and_hash_are_the_same_in_every_process() -> None:
    shown = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(shown) == 1
