"""A timeout that nobody catches fails the task under its own name."""

import millstream as flyte

env = flyte.TaskEnvironment("condition_timeout_raised")


@env.task
async def main() -> bool:
    asked = await flyte.new_condition.aio("quick", timeout=0.2)
    return await asked.wait.aio()


RAISES = "ConditionTimedoutError"
