"""Values in the blob store are taken from there: whole, by element, and put together as results."""

import typing

import millstream

env = millstream.TaskEnvironment("static_large_values")
SIZE = 50_000


class Made(typing.NamedTuple):
    text: str
    size: int


@env.task
async def make(letter: str) -> Made:
    return Made(letter * SIZE, SIZE)


@env.task
async def pair(text: str) -> tuple[str, str]:
    return text + "!", text[:3]


@env.task
async def measure(text: str, pieces: list[str], number: float) -> str:
    return f"{len(text)} {text[-1]} {[len(piece) for piece in pieces]} {number!r}"


@env.task
def count(table: dict[str, object], anything: object) -> int:
    return len(str(table["given"])) + len(typing.cast("str", anything))


@env.task(static=True)
async def main(given: str = "g" * SIZE) -> tuple[str, str, int, str]:
    made = await make("a")
    long, short = await pair(made.text)
    said = await measure(long, [short, made[0], "c" * SIZE, given], made.size)
    return said, long, count({"given": given, "long": long}, made.text), "kept"


EXPECT = (
    f"{SIZE + 1} ! [3, {SIZE}, {SIZE}, {SIZE}] {float(SIZE)!r}",
    "a" * SIZE + "!",
    2 * SIZE,
    "kept",
)
