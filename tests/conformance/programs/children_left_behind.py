"""A task that returns leaves no child behind, awaited or not."""

import asyncio

import millstream

env = millstream.TaskEnvironment("children_left_behind")
STARTED = []


@env.task
async def forever() -> None:
    await asyncio.sleep(3600)


@env.task
async def main() -> str:
    STARTED.append(asyncio.create_task(forever()))
    await asyncio.sleep(0.1)
    return "over"


EXPECT = "over"
