"""A class of one's own, by a codec, by a Flyte transformer, and (last resort) pickled."""

from typing import Any

import millstream
from millstream import types

env = millstream.TaskEnvironment("types_own_codec")


class Money:
    def __init__(self, amount: int, unit: str) -> None:
        self.amount = amount
        self.unit = unit

    def __repr__(self) -> str:
        return f"{self.amount} {self.unit}"


class MoneyCodec:
    name = "acme.Money"
    cls = Money

    def encode(self, value: Money, site: types.Site) -> object:
        return {"amount": value.amount, "unit": value.unit}

    def decode(self, record: dict[str, Any], site: types.Site) -> Money:
        return Money(**record)


class Angle:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __repr__(self) -> str:
        return f"{self.degrees}°"


class AngleTransformer(types.TypeTransformer[Angle]):
    def __init__(self) -> None:
        super().__init__("Angle", Angle)

    async def to_literal(self, python_val: Angle, python_type: Any, expected: Any) -> float:
        return python_val.degrees

    async def to_python_value(self, lv: float, expected_python_type: Any) -> Angle:
        return Angle(lv)


class Plain:
    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"Plain({self.inner!r})"


types.register(MoneyCodec())
types.TypeEngine.register(AngleTransformer())


@env.task
def doubled(money: Money) -> Money:
    return Money(money.amount * 2, money.unit)


@env.task
def turned(angles: list[Angle], prices: dict[str, Any]) -> list[object]:
    return [Angle(angles[0].degrees + 90), prices["a"]]


@env.task
def wrapped(plain: Plain, kind: type[Plain]) -> Plain:
    return kind(plain)


@env.task
async def main() -> list[object]:
    return [
        await doubled.aio(Money(2, "EUR")),
        await turned.aio([Angle(1.5)], {"a": Money(1, "USD")}),
        await wrapped.aio(Plain(Money(3, "CHF")), Plain),
    ]


EXPECT = [Money(4, "EUR"), [Angle(91.5), Money(1, "USD")], Plain(Plain(Money(3, "CHF")))]
