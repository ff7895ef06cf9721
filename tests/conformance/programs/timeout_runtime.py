"""A task over its `timeout` ends, and its parent catches it by either name."""

import asyncio

import millstream
from millstream.errors import MaxRuntimeExceededError, TaskTimeoutError

env = millstream.TaskEnvironment("timeout_runtime")


@env.task(timeout=0.2)
async def slow() -> None:
    await asyncio.sleep(3600)


@env.task
async def main() -> list[bool]:
    try:
        await slow()
    except TaskTimeoutError as exc:
        return [isinstance(exc, MaxRuntimeExceededError)]
    return []


EXPECT = [True]
