"""When the call that the others wait for is cancelled, the next one runs."""

import asyncio
import uuid

import millstream

env = millstream.TaskEnvironment("cache_serialized_cancelled")


@env.task(cache=millstream.Cache("auto", serialize=True, ignored_inputs="seconds"))
async def slow(seed: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@env.task
async def main() -> list[str]:
    seed = uuid.uuid4().hex
    owner = asyncio.create_task(slow(seed, 60))
    await asyncio.sleep(0.3)
    waiting = asyncio.create_task(slow(seed, 0.01))
    await asyncio.sleep(0.3)
    owner.cancel()
    ended = await asyncio.gather(owner, waiting, return_exceptions=True)
    return [type(each).__name__ if isinstance(each, BaseException) else each for each in ended]


EXPECT = ["CancelledError", "done"]
