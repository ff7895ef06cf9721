"""Values of many kinds go through a plan as they go through ordinary calls."""

import dataclasses
import datetime as dt
import enum
import pathlib

import millstream
from millstream.io import File

env = millstream.TaskEnvironment("static_values")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float


@env.task
async def made(n: int) -> tuple[Point, Colour, dt.datetime, set[int], bytes | None]:
    return Point(n, 0.5), Colour.BLUE, dt.datetime(2026, 1, n, tzinfo=dt.UTC), {n, 1}, None


@env.task
async def write(text: str) -> File:
    path = pathlib.Path("static_values.txt").resolve()
    path.write_text(text)
    return await File.from_local(str(path))


@env.task
async def look(
    point: Point | None, colour: object, when: dt.datetime, some: set[int], none: bytes | None
) -> list[str]:
    return [repr(point), repr(colour), when.isoformat(), repr(sorted(some)), repr(none)]


@env.task
async def read(file: File) -> str:
    async with file.open("rb") as stream:
        return bytes(await stream.read()).decode()


@env.task
async def nothing() -> None:
    return None


@env.task
async def takes(value: object, points: list[Point]) -> str:
    return f"{value} {points}"


@env.task(static=True)
async def main(n: int = 2) -> tuple[list[str], str, str]:
    point, colour, when, some, none = await made(n)
    seen = await look(point, colour, when, some, none)
    text = await read(await write("from a file"))
    return seen, text, await takes(await nothing(), [point, Point(7, 7.5)])


EXPECT = (
    ["Point(x=2, y=0.5)", "<Colour.BLUE: 2>", "2026-01-02T00:00:00+00:00", "[1, 2]", "None"],
    "from a file",
    "None [Point(x=2, y=0.5), Point(x=7, y=7.5)]",
)
