"""Enums, dates, times, decimals, UUIDs and paths keep their types."""

import datetime as dt
import decimal
import enum
import pathlib
import uuid

import millstream

env = millstream.TaskEnvironment("enums_and_dates")


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


VALUES = (
    Colour.BLUE,
    dt.datetime(2024, 2, 29, 12, 30, 1, 5, dt.UTC),
    dt.date(1999, 12, 31),
    dt.timedelta(days=1, microseconds=3),
    decimal.Decimal("1.10"),
    uuid.UUID(int=7),
    pathlib.Path("a/b"),
    b"\x00\xff",
)


@env.task
async def echo(
    colour: Colour,
    moment: dt.datetime,
    day: dt.date,
    span: dt.timedelta,
    price: decimal.Decimal,
    key: uuid.UUID,
    path: pathlib.Path,
    raw: bytes,
) -> tuple[
    Colour,
    dt.datetime,
    dt.date,
    dt.timedelta,
    decimal.Decimal,
    uuid.UUID,
    pathlib.Path,
    bytes,
]:
    return colour, moment, day, span, price, key, path, raw


@env.task
async def main() -> list[object]:
    found = await echo(*VALUES)
    return [type(one).__name__ for one in found] + [found == VALUES]


EXPECT = [*(type(one).__name__ for one in VALUES), True]
