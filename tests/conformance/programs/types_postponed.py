"""Annotations that are text (PEP 563) find their types, also where a task travels by value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import millstream

env = millstream.TaskEnvironment("types_postponed")


@dataclass
class Price:
    amount: Decimal
    since: date


def declared() -> millstream.Task:
    """Return a task that no name leads to, so that it is pickled for its worker."""

    @millstream.trace
    async def half(amount: Decimal) -> Decimal:
        return amount / 2

    @env.task
    async def cheaper(price: Price, until: date) -> tuple[str, Decimal, str]:
        return type(price).__name__, await half(price.amount), f"{until - price.since}"

    return cheaper


@env.task
async def main() -> list[str]:
    price = Price(Decimal("9.50"), date(2026, 1, 1))
    name, amount, time = await declared()(price, date(2026, 1, 3))
    return [name, str(amount), time]


EXPECT = ["Price", "4.75", "2 days, 0:00:00"]
