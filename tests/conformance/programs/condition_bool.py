"""A task waits for a yes."""

import asyncio

import millstream as flyte

env = flyte.TaskEnvironment("condition_bool")


@env.task
async def answer(name: str, value: bool) -> None:
    run = flyte.ctx().action.run_name
    while (asked := await flyte.remote.Condition.get.aio(name, run_name=run)) is None:
        await asyncio.sleep(0.05)
    await asked.signal.aio(value)


@env.task
async def main() -> str:
    asked = await flyte.new_condition.aio("go", prompt="Go on?", data_type=bool)
    await answer("go", True)
    return "went on" if await asked.wait.aio() else "stopped"


EXPECT = "went on"
