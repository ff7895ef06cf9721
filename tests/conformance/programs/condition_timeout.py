"""A condition that nobody answers ends by its timeout, which can be caught."""

from datetime import timedelta

import millstream as flyte

env = flyte.TaskEnvironment("condition_timeout")


@env.task
async def main() -> str:
    asked = await flyte.new_condition.aio("quick", timeout=timedelta(milliseconds=200))
    try:
        return str(await asked.wait.aio())
    except flyte.errors.ConditionTimedoutError as exc:
        return f"{exc.code} {exc.kind}"


EXPECT = "ConditionTimedoutError user"
