"""What goes in comes out: value, class, order and time zone."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import io
import math
import pathlib
import sys
import threading
import typing
import uuid
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Optional

import msgspec
import pydantic
import pytest

from millstream import _values
from millstream.errors import LargePickleWarning, RestrictedTypeError, RuntimeDataValidationError

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
T = typing.TypeVar("T")
UserId = NewType("UserId", int)


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


class Word(enum.StrEnum):
    YES = "yes"


class Bits(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0
    tag: str = None  # type: ignore[assignment]  # the common slip
    made: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Deeper(Point):
    extra: int = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    name: str
    children: "list[Node]" = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Derived:
    side: int
    area: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.area = self.side**2
        self.loud = True


@dataclasses.dataclass
class FromSeed:
    seed: dataclasses.InitVar[int]
    value: int = 0

    def __post_init__(self, seed: int) -> None:
        self.value = seed * 2


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Options(typing.TypedDict):
    name: str
    size: NotRequired[int]


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    good: bool = True


class Owner(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    color: Color = Color.RED
    when: dt.datetime | None = None
    points: list[Point] = []
    secret: pydantic.SecretStr | None = None
    site: pydantic.HttpUrl | None = None
    _private: int = pydantic.PrivateAttr(default=3)


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Packet(msgspec.Struct):
    a: int
    b: Point | None = None


class Plain:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.x == self.x

    def __hash__(self) -> int:
        return hash(self.x)

    def __repr__(self) -> str:
        return f"Plain({self.x})"


def owner() -> Owner:
    made = Owner(
        pet=Dog(),
        when=dt.datetime(2026, 1, 2, tzinfo=BERLIN),
        points=[Point(1)],
        secret=pydantic.SecretStr("s"),
        site=pydantic.HttpUrl("https://example.org/x"),
        more=[1, (2, 3)],
    )
    made._private = 7
    return made


EXACT: list[tuple[object, object]] = [
    (None, None),
    (True, bool),
    (True, int),
    (0, int),
    (2**64, int),
    (-(2**63) - 1, int),
    (10**400, int),
    (-0.0, float),
    (math.inf, float),
    ("", str),
    ("z\udc80", str),
    (b"\x00\xff", bytes),
    (dt.datetime(2026, 10, 25, 2, 30, fold=1), Any),  # noqa: DTZ001
    (dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN), dt.datetime),
    (dt.datetime(2026, 1, 1, 1, 1, 1, 1, tzinfo=dt.UTC), dt.datetime),
    (dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5, seconds=7))), dt.datetime),
    (dt.date(2026, 2, 28), dt.date),
    (dt.time(1, 2, 3, 4, fold=1), dt.time),
    (dt.time(1, 2, tzinfo=dt.UTC), dt.time),
    (dt.timedelta(days=-3, microseconds=1), dt.timedelta),
    (decimal.Decimal("1.10"), decimal.Decimal),
    (decimal.Decimal("-Infinity"), decimal.Decimal),
    (uuid.UUID(int=5), uuid.UUID),
    (pathlib.Path("a/b"), pathlib.Path),
    (pathlib.PureWindowsPath("c:\\x"), pathlib.PurePath),
    (1 + 2j, complex),
    (Color.BLUE, Color),
    (Word.YES, Word),
    (Bits.A | Bits.B, Bits),
    (Color.RED, Literal[Color.RED]),
    ("a", Literal["a", 1]),
    (UserId(4), UserId),
    ([1, 2**70, True], list[int]),
    ([1.0, 2.5], list[float]),
    ([], list[str]),
    ((1, "a"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    ((), tuple[()]),
    ({"b": 1, "a": 2}, dict[str, int]),
    ({2: "x", 1: "y"}, dict[int, str]),
    ({(1, 2): {3}, (0, 0): set()}, dict[tuple[int, int], set[int]]),
    ({Color.RED: 1}, dict[Color, int]),
    ({True: 1, None: 2, 1.5: 3}, dict[Any, int]),
    ({1, 2, 3}, set[int]),
    (frozenset({"a", "b"}), frozenset[str]),
    ([1, 2], Sequence[int]),
    ((1, 2), Sequence[int]),
    ({"a": [1]}, Mapping[str, Sequence[int]]),
    (None, Optional[int]),  # noqa: UP045
    (1, int | str | None),
    ([1], list[int] | list[str]),
    (["a"], list[int] | list[str]),
    ([], list[int] | list[str]),
    (True, int | bool),
    (1, float | int),
    (Point(1), Point | dict[str, int]),
    ({"x": 1}, Point | dict[str, int]),
    (dt.date(2026, 1, 1), dt.datetime | dt.date),
    (Point(1, 2.0, "t", [3]), Point),
    (Deeper(1), Point),
    (Node("a", [Node("b"), Node("c", [Node("d")])]), Node),
    (Derived(3), Derived),
    (FromSeed(4), FromSeed),
    (Box(dt.date(2026, 1, 1)), Box[dt.date]),
    (Box([1]), Box),
    (Pair(1, "x"), Pair),
    ([Pair(1)], list[Pair]),
    (collections.namedtuple("Loose", "a b")(1, [2]), Any),  # noqa: PYI024
    ({"name": "n"}, Options),
    ({"size": 1, "name": "n"}, Options),
    ({"name": "n", "other": [1]}, Options),
    (Cat(lives=3), Cat),
    (owner(), Owner),
    (Owner.model_construct(pet="not a pet"), Owner),
    (Numbers([1, 2]), Numbers),
    (Packet(1, Point(2)), Packet),
    (Plain(3), Plain),
    (Plain(3), Any),
    ([Plain(1), {"a": (1, {2}, frozenset({3}))}], Any),
    ({"deep": [dt.datetime(2026, 1, 1), decimal.Decimal(1), Color.RED]}, Any),  # noqa: DTZ001
    (bytearray(b"x"), Any),
    (len, Callable[[list[int]], int]),
    (1, Annotated[int, pydantic.Field(gt=0)]),
]


@pytest.mark.parametrize(("value", "annotation"), EXACT, ids=lambda item: repr(item)[:40])
def test_a_value_comes_back_as_it_was(value: object, annotation: object) -> None:
    if type(value).__name__ == "Loose":
        sys.modules[type(value).__module__].Loose = type(value)  # type: ignore[attr-defined]
    codec, content = _values.encode(value, annotation)
    back = _values.decode(codec, content, annotation)
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    if isinstance(value, dict):
        assert list(back) == list(value)  # type: ignore[call-overload]
    assert _values.encode(back, annotation) == (codec, content)


def test_nan_comes_back() -> None:
    back = _values.decode(*_values.encode([math.nan], list[float]), list[float])
    assert math.isnan(back[0])  # type: ignore[index]


def test_a_model_keeps_what_stands_beside_its_fields() -> None:
    back = _values.decode(*_values.encode(owner(), Owner), Owner)
    assert isinstance(back, Owner)
    assert back.model_fields_set == owner().model_fields_set
    assert back.model_extra == {"more": [1, (2, 3)]}
    assert back._private == 7


def test_an_old_message_without_a_new_field_gets_its_default() -> None:
    codec, content = _values.encode({"x": 1}, dict[str, int])
    assert _values.decode(codec, content, Point) == Point(1)
    assert _values.decode("msgpack", msgspec.msgpack.encode({"lives": 2}), Cat) == Cat(lives=2)


@pytest.mark.parametrize(
    ("given", "annotation", "meant"),
    [
        (1, float, 1.0),
        ([1, 2.5], list[float], [1.0, 2.5]),
        ({"x": 1, "y": 2}, Point, Point(1, 2.0)),
        ([{"x": 1}], list[Point], [Point(1)]),
        ({"name": "a", "children": [{"name": "b"}]}, Node, Node("a", [Node("b")])),
        ({"pet": {"kind": "dog"}, "color": 1}, Owner, Owner(pet=Dog())),
        ({"kind": "dog"}, Cat | Dog, Dog()),
        ([1], Numbers, Numbers([1])),
        ("RED", Color, Color.RED),
        ("b", Color, Color.BLUE),
        ([1, "a"], tuple[int, str], (1, "a")),
        (collections.OrderedDict(b=1, a=2), dict[str, int], {"b": 1, "a": 2}),
        (Word.YES, str, "yes"),
    ],
)
def test_what_plainly_means_the_declared_type_is_taken_for_it(
    given: object, annotation: object, meant: object
) -> None:
    back = _values.decode(*_values.encode(given, annotation), annotation)
    assert back == meant
    assert type(back) is type(meant)


@pytest.mark.parametrize(
    ("value", "annotation", "path"),
    [
        ("1", int, "p"),
        (1.0, int, "p"),
        (True, float, "p"),
        (1, str, "p"),
        (None, int, "p"),
        ((1,), list[int], "p"),
        ([1, "a"], list[int], "p[1]"),
        ({"a": {"b": "x"}}, dict[str, dict[str, int]], "p['a']['b']"),
        ((1, 2, 3), tuple[int, int], "p"),
        (Point("a"), Point, "p.x"),  # type: ignore[arg-type]
        ({"x": "a"}, Point, "p.x"),
        ({"z": 1}, Point, "p"),
        ({}, Point, "p"),
        ({"name": 1}, Options, "p.name"),
        ({}, Options, "p"),
        ({"pet": {"kind": "cow"}}, Owner, "p"),
        ("c", Literal["a", "b"], "p"),
        (True, Literal[1], "p"),
        ("GREEN", Color, "p"),
        ([], int | str, "p"),
        (Plain(1), Point, "p"),
        (1, Plain, "p"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(
    value: object, annotation: object, path: str
) -> None:
    with pytest.raises(RuntimeDataValidationError) as caught:
        _values.encode(value, annotation, where="p")
    assert caught.value.parameter == path
    assert caught.value.expected
    assert caught.value.got


def test_only_a_pickled_part_makes_the_codec_pickle() -> None:
    assert _values.encode([Point(1)], list[Point])[0] == "msgpack"
    assert _values.encode([Plain(1)], list[Plain])[0] == "pickle"
    assert _values.encode("a", Plain | str)[0] == "msgpack"


def test_a_large_pickle_warns() -> None:
    with pytest.warns(LargePickleWarning, match="1,0"):
        _values.encode(io.BytesIO(bytes(1_000_001)), Any)


def test_a_class_that_travels_as_a_pickle_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Plain):
        pass

    for _ in range(2):
        _values.encode([Odd(1), len, Plain, threading.Thread], Any)
    assert [record.args for record in caplog.records] == [(Odd.__qualname__,)]


def test_what_cannot_be_pickled_is_refused_by_class() -> None:
    with pytest.raises(RestrictedTypeError, match="generator"):
        _values.encode((x for x in [1]), Any)


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(RuntimeDataValidationError, match="nest"):
        _values.encode(loop, Any)


def test_importing_the_codec_imports_no_heavy_package() -> None:
    import subprocess

    code = "import sys, millstream._failures, millstream._cache; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "nats", "structlog", "aiosqlite", "uvloop"} & set(shown.stdout.split())
