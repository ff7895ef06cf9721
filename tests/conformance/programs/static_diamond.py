"""A static task: four calls, two of them side by side; elements of a tuple go separate ways."""

import millstream

env = millstream.TaskEnvironment("static_diamond")


@env.task
async def start(n: int) -> int:
    return n + 1


@env.task
async def left(n: int) -> int:
    return n * 2


@env.task
def right(n: int) -> tuple[int, str]:
    return n * 3, "right"


@env.task
async def join(a: int, b: float, word: str, both: list[int]) -> str:
    return f"{a} {b!r} {word} {both}"


@env.task(static=True)
async def main(n: int = 3) -> tuple[str, int]:
    first = await start(n)
    doubled = await left(first)
    tripled, word = right(first)
    return await join(doubled, tripled, word, [doubled, tripled, 7]), tripled


EXPECT = ("8 12.0 right [8, 12, 7]", 12)
