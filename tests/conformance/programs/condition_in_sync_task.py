"""Sync code waits for a condition with the plain forms."""

import asyncio

import millstream as flyte

env = flyte.TaskEnvironment("condition_in_sync_task")


@env.task
async def answer(name: str, value: int) -> None:
    run = flyte.ctx().action.run_name
    while (asked := await flyte.remote.Condition.get.aio(name, run_name=run)) is None:
        await asyncio.sleep(0.05)
    await asked.signal.aio(value)


@env.task
def ask() -> int:
    asked = flyte.new_condition("count", data_type=int)
    return asked.wait()


@env.task
async def main() -> int:
    count, _ = await asyncio.gather(ask.aio(), answer("count", 3))
    return count


EXPECT = 3
