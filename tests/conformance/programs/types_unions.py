"""Of several types, the one that a value has comes back."""

import dataclasses
import enum
from typing import Any, Literal, Optional, Union

from pydantic import BaseModel

import millstream

env = millstream.TaskEnvironment("types_unions")


@dataclasses.dataclass
class Point:
    x: int


@dataclasses.dataclass
class Spot:
    x: int


class Model(BaseModel):
    x: int


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Bits(enum.Flag):
    A = 1
    B = 2


@env.task
def named(value: Union[int, str, Point, Spot, Model, list[int], None]) -> str:  # noqa: UP007
    return repr(value)


@env.task
def mode(value: Literal["fast", "slow", 3] = "fast", level: Optional[Level] = None) -> str:  # noqa: UP045
    return f"{value!r} {level!r}"


@env.task
def enums(level: Level, word: Word, bits: Bits) -> tuple[Level, Word, Bits]:
    return level, word, bits


@env.task
def anything(value: Any) -> Any:
    return value


@env.task
async def main() -> list[object]:
    given = (1, "1", Point(1), Spot(1), Model(x=1), [1], None)
    shown = [await named.aio(value) for value in given]
    return [
        shown,
        await mode.aio(),
        await mode.aio(3, Level.LOW),
        await enums.aio(Level.LOW, Word.YES, Bits.A | Bits.B),
        await enums.aio("LOW", "YES", Bits.B),  # type: ignore[arg-type]
        await anything.aio({"a": [Point(1), (1, {2}), Level.LOW]}),
    ]


EXPECT = [
    ["1", "'1'", "Point(x=1)", "Spot(x=1)", "Model(x=1)", "[1]", "None"],
    "'fast' None",
    "3 <Level.LOW: 1>",
    (Level.LOW, Word.YES, Bits.A | Bits.B),
    (Level.LOW, Word.YES, Bits.B),
    {"a": [Point(1), (1, {2}), Level.LOW]},
]
