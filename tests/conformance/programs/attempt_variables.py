"""Variables that Flyte sets for a task say which attempt reads them, also across a wait."""

import asyncio
import os

import millstream

env = millstream.TaskEnvironment("attempt_variables", env_vars={"RUN_NAME": "mine"})
plain = millstream.TaskEnvironment("attempt_variables_plain")


@plain.task(retries=millstream.RetryStrategy(2, millstream.Backoff(0.01)))
async def attempts(good: int) -> str:
    before = int(os.environ.get("FLYTE_ATTEMPT_NUMBER", "7"))
    await asyncio.sleep(0.01)
    if int(os.environ["FLYTE_ATTEMPT_NUMBER"]) < good:
        raise ConnectionError
    return f"{before}{os.getenv('FLYTE_ATTEMPT_NUMBER')}"


@plain.task
def names() -> list[bool]:
    action = millstream.ctx().action
    assert action is not None
    return [
        os.environ["ACTION_NAME"] == action.name,
        os.environ["RUN_NAME"] == action.run_name,
        os.environ["FLYTE_INTERNAL_EXECUTION_PROJECT"] == action.project,
        os.environ["FLYTE_INTERNAL_EXECUTION_DOMAIN"] == action.domain,
        "FLYTE_ATTEMPT_NUMBER" in os.environ,
        "ACTION_NAME_" in os.environ,
    ]


@env.task
async def of_the_environment() -> str:
    return os.environ["RUN_NAME"]


@plain.task
async def main() -> list[object]:
    return [
        *await asyncio.gather(attempts(0), attempts(2), attempts(1)),
        *await names.aio(),
        await of_the_environment(),
    ]


EXPECT = ["00", "22", "11", True, True, True, True, True, False, "mine"]
