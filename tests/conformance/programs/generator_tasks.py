"""A task may yield: its items come when it has succeeded, each of them once."""

from collections.abc import AsyncIterator, Iterator

import millstream

env = millstream.TaskEnvironment("generator_tasks")


@env.task(retries=2)
async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number
        if number == 1 and millstream.ctx().attempt_number == 0:
            raise OSError("half way")


@env.task
def letters(word: str) -> Iterator[str]:
    yield from word


@env.task
def spell(word: str) -> list[str]:
    return [letter.upper() for letter in letters(word)]


@env.task
async def main() -> list[object]:
    found: list[object] = [number async for number in count(3)]
    found += [letter async for letter in letters.aio("ab")]
    found.append(await count(2))
    found += await spell.aio("xy")
    found += [list(letters.forward("z"))]
    return found


EXPECT = [0, 1, 2, "a", "b", [0, 1], "X", "Y", ["z"]]
