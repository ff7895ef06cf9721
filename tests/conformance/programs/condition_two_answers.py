"""The first answer stands; the same one again is fine, another is refused."""

import asyncio

import millstream as flyte

env = flyte.TaskEnvironment("condition_two_answers")


@env.task
async def main() -> list[str]:
    run = flyte.ctx().action.run_name
    asked = await flyte.new_condition.aio("once", data_type=int)
    while (condition := await flyte.remote.Condition.get.aio("once", run_name=run)) is None:
        await asyncio.sleep(0.05)
    found = [str(condition.phase)]
    await condition.signal.aio(1)
    await condition.signal.aio(1)
    for wrong in (2, "one"):
        try:
            await condition.signal.aio(wrong)
        except (flyte.errors.ConditionFailedError, TypeError) as exc:
            found.append(type(exc).__name__)
    return [*found, str(await asked.wait.aio())]


EXPECT = ["PAUSED", "ConditionFailedError", "TypeError", "1"]
