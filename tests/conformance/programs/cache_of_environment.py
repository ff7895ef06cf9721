"""A task takes its environment's cache setting unless it has its own; aliases are understood."""

import uuid

import millstream

env = millstream.TaskEnvironment("cache_of_environment", cache="enable")
plain = millstream.TaskEnvironment("cache_of_environment_plain")


@env.task
async def inherited(n: int) -> str:
    return uuid.uuid4().hex


@env.task(cache="off")
async def switched_off(n: int) -> str:
    return uuid.uuid4().hex


@plain.task
async def usual(n: int) -> str:
    return uuid.uuid4().hex


@plain.task(cache="on")
async def switched_on(n: int) -> str:
    return uuid.uuid4().hex


@plain.task
async def main() -> list[bool]:
    tasks = [inherited, switched_off, usual, switched_on]
    return [await task(1) == await task(1) for task in tasks]


EXPECT = [True, False, False, True]
