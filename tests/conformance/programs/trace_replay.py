"""A retry replays recorded steps of any value instead of running them again."""

import uuid

import millstream

env = millstream.TaskEnvironment("trace_replay")


class Unlucky(Exception):
    def __init__(self, seen: str) -> None:
        super().__init__(seen)


@millstream.trace
async def fresh() -> str:
    return uuid.uuid4().hex


@millstream.trace
async def falsy(n: int) -> int | str | list[int] | None:
    attempt = millstream.ctx().attempt_number
    return [0, "", [], None][n] if attempt == 0 else "ran again"


@env.task(retries=1)
async def traced() -> list[object]:
    names = [await fresh(), await fresh()]
    found = [await falsy(n) for n in range(4)]
    if millstream.ctx().attempt_number == 0:
        raise Unlucky(names[0])
    return [names[0] != names[1], *found]


@env.task
async def main() -> list[object]:
    return await traced()


EXPECT = [True, 0, "", [], None]
