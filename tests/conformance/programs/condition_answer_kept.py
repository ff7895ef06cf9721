"""A retried task finds the answer that its former attempt had."""

import asyncio

import millstream as flyte

env = flyte.TaskEnvironment("condition_answer_kept")


@env.task
async def answer(name: str, value: int) -> None:
    run = flyte.ctx().action.run_name
    while (asked := await flyte.remote.Condition.get.aio(name, run_name=run)) is None:
        await asyncio.sleep(0.05)
    await asked.signal.aio(value)


@env.task
async def ask() -> int:
    asked = await flyte.new_condition.aio("once", data_type=int)
    number = await asked.wait.aio()
    if flyte.ctx().attempt_number == 0:
        raise ValueError("after the answer")
    return number


@env.task
async def main() -> int:
    number, _ = await asyncio.gather(ask.override(retries=1)(), answer("once", 5))
    return number


EXPECT = 5
