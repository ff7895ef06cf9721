"""Answers arrive with the type that was asked for."""

import asyncio

import millstream as flyte

env = flyte.TaskEnvironment("condition_types")


@env.task
async def answer(name: str, value: int | str) -> None:
    run = flyte.ctx().action.run_name
    while (asked := await flyte.remote.Condition.get.aio(name, run_name=run)) is None:
        await asyncio.sleep(0.05)
    await asked.signal.aio(value)


@env.task
async def main() -> list[str]:
    number = await flyte.new_condition.aio("number", data_type=int)
    share = await flyte.new_condition.aio("share", data_type=float)
    text = await flyte.new_condition.aio("text", data_type=str, prompt_type="markdown")
    await asyncio.gather(answer("number", 7), answer("share", 2), answer("text", "yes"))
    found = [await number.wait.aio(), await share.wait.aio(), await text.wait.aio()]
    return [repr(one) for one in found]


EXPECT = ["7", "2.0", "'yes'"]
