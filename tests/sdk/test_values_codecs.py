"""A codec carries a class of the user's wherever a value may stand."""

import asyncio
import dataclasses
from typing import Annotated, Any, NamedTuple

import pydantic
import pytest

from millstream import _values, types
from millstream._interface import Interface
from millstream._values_sink import Sink, finish
from millstream.errors import RuntimeDataValidationError
from millstream_events.values import Inline, Value


class Money:
    def __init__(self, amount: int, unit: str = "EUR") -> None:
        self.amount = amount
        self.unit = unit

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((self.amount, self.unit))


class Coin(Money):
    pass


class MoneyCodec:
    name = "tests.Money"
    cls = Money
    accepts = (int,)

    def encode(self, value: Money | int, site: types.Site) -> object:
        if isinstance(value, int):
            value = Money(value)
        if value.amount < 0:
            raise ValueError("no debts")
        return types.Coded((value.amount, value.unit), digest=str(value.amount).encode())

    def decode(self, record: tuple[int, str], site: types.Site) -> Money:
        return Money(*record)


class Upload:
    def __init__(self, text: str = "", *, tags: tuple[Any, ...] = ()) -> None:
        self.text = text
        self.tags = tags


class UploadCodec:
    name = "tests.Upload"
    cls = Upload

    def encode(self, value: Upload, site: types.Site) -> object:
        async def upload(storage: types.Storage) -> None:
            await storage.store(value.text.encode(), "text")

        site.later(upload)
        site.aside(100)
        return len(value.text)

    def decode(self, record: int, site: types.Site) -> Upload:
        return Upload("x" * record, tags=(*site.args, *site.metadata))


types.register(MoneyCodec())
types.register(UploadCodec())


@dataclasses.dataclass
class Bill:
    total: Money
    lines: list[Money]


class Invoice(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    total: Money
    extra: Any = None


class Pair(NamedTuple):
    left: Money
    right: Money | None = None


class Stored:
    def __init__(self) -> None:
        self.contents: list[bytes] = []

    async def store(self, content: bytes, codec: str) -> Value:
        self.contents.append(content)
        return Inline(codec, content)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Money(3), Money),
        (Money(3), Any),
        ([Money(1), Money(2, "USD")], list[Money]),
        ({"a": Money(1)}, dict[str, Money]),
        ((1, Money(2)), tuple[int, Money]),
        (Money(1), Money | None),
        (None, Money | None),
        (Money(1), int | str | Money),
        ({Money(1), 2}, Any),
        (Bill(Money(1), [Money(2)]), Bill),
        (Bill(Money(1), [Money(2)]), Any),
        (Invoice(total=Money(1), extra=[Money(5)]), Invoice),
        (Pair(Money(1)), Pair),
        ([Bill(Money(1), []), Money(3)], list[Bill | Money]),
    ],
)
def test_an_instance_comes_back_from_wherever_it_stands(value: object, annotation: object) -> None:
    codec, content = _values.encode(value, annotation)
    assert _values.decode(codec, content, annotation) == value


def test_a_codec_may_accept_other_classes() -> None:
    codec, content = _values.encode(7, Money)
    assert _values.decode(codec, content, Money) == Money(7)
    assert codec == "msgpack"


def test_a_subclass_without_a_codec_keeps_its_class() -> None:
    codec, content = _values.encode(Coin(1), Money)
    assert type(_values.decode(codec, content, Money)) is Coin
    assert codec == "pickle"


def test_what_a_codec_refuses_is_named_by_its_place() -> None:
    with pytest.raises(RuntimeDataValidationError, match=r"value\.lines\[1\].*no debts"):
        _values.encode(Bill(Money(1), [Money(2), Money(-3)]), Bill)
    with pytest.raises(RuntimeDataValidationError, match=r"\[0\].*Money"):
        _values.encode(["x"], list[Money])


def test_a_digest_stands_for_the_record_in_hashes() -> None:
    euros = _values.inputs_hash(_values.encode({"a": Money(1)})[1])
    assert euros == _values.inputs_hash(_values.encode({"a": Money(1, "USD")})[1])
    assert euros != _values.inputs_hash(_values.encode({"a": Money(2)})[1])


def test_a_name_belongs_to_one_class() -> None:
    class Thief(MoneyCodec):
        cls = Upload  # type: ignore[assignment]  # not its own

    with pytest.raises(ValueError, match="belongs to Money"):
        types.register(Thief())


def test_brackets_and_annotated_reach_the_codec() -> None:
    codec, content = _values.encode(Upload("abc"), Upload)
    back = _values.decode(codec, content, Annotated[Upload, "csv"])
    assert isinstance(back, Upload)
    assert back.tags == ("csv",)


def test_work_that_belongs_to_a_value_is_done_before_it_leaves() -> None:
    def task(a: Upload, b: list[Any]) -> None: ...

    sink, stored = Sink(), Stored()
    Interface.of(task).encode_inputs((Upload("one"), [Upload("two")]), {}, sink)
    asyncio.run(finish(sink, stored))
    assert stored.contents == [b"one", b"two"]
    assert sink.aside_bytes == 200


def test_the_arm_of_a_union_that_does_not_fit_leaves_no_work() -> None:
    def task(a: tuple[Upload, int] | tuple[Upload, str]) -> None: ...

    sink = Sink()
    Interface.of(task).encode_inputs(((Upload("one"), "x"),), {}, sink)
    assert len(sink.works) == 1
