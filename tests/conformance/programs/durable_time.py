"""Recorded time stands still over a retry, and a recorded sleep is not slept twice."""

import time

import millstream

env = millstream.TaskEnvironment("durable_time")


@env.task(retries=1)
async def sleeper(began: float) -> list[bool]:
    first = await millstream.durable.time.aio()
    await millstream.durable.sleep.aio(0.3)
    slept = time.time() - first
    if millstream.ctx().attempt_number == 0:
        time.sleep(0.2)
        raise OSError("again")
    now = await millstream.durable.now.aio()
    return [slept >= 0.48, slept < 20, now.timestamp() >= first]


@env.task
def plain() -> bool:
    began = time.monotonic()
    millstream.durable.sleep(0.05)
    return time.monotonic() - began >= 0.045


@env.task
async def main() -> list[bool]:
    return [*await sleeper(0.0), await plain.aio()]


EXPECT = [True, True, True, True]
