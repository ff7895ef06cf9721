"""Retries, caching and groups of the tasks of a plan work as they do elsewhere."""

import uuid

import millstream

env = millstream.TaskEnvironment("static_retries_and_cache")


@env.task(retries=2)
async def third_time(n: int) -> int:
    attempt = millstream.ctx().attempt_number or 0
    if attempt < 2:
        raise ValueError(f"attempt {attempt}")
    return attempt + n


@env.task(cache=millstream.Cache("auto", serialize=True))
async def draw(seed: str) -> str:
    return f"{seed} {uuid.uuid4().hex}"


@env.task(static=True)
async def plan(seed: str) -> tuple[int, str, str]:
    with millstream.group("inside"):
        attempts = await third_time(10)
    return attempts, await draw(seed), await draw(seed)


@env.task
async def main() -> list[object]:
    seed = uuid.uuid4().hex
    first, second = await plan(seed), await plan(seed)
    again = await draw(seed)
    return [first[0], first[1] == first[2], first[1] == second[1], again == first[1]]


EXPECT = [12, True, True, True]
