"""Each attempt has its own `timeout`, and a retry may keep it."""

import asyncio

import millstream

env = millstream.TaskEnvironment("timeout_retried")


@env.task(timeout=0.3, retries=1)
async def slow_once() -> int:
    number = millstream.ctx().attempt_number or 0
    if number == 0:
        await asyncio.sleep(3600)
    return number


@env.task
async def main() -> int:
    return await slow_once()


EXPECT = 1
