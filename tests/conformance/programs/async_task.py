"""An async task may await what it likes."""

import asyncio

import millstream

env = millstream.TaskEnvironment("async_task")


@env.task
async def main(text: str = "stone") -> str:
    await asyncio.sleep(0)
    return text.upper()


EXPECT = "STONE"
