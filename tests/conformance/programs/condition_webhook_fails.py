"""A webhook that cannot be called fails nothing."""

import millstream as flyte

env = flyte.TaskEnvironment("condition_webhook_fails")


@env.task
async def main() -> str:
    hook = flyte.ConditionWebhook("http://127.0.0.1:9/hook", {"answer": "{callback_uri}"})
    asked = await flyte.new_condition.aio("hooked", timeout=0.3, webhook=hook)
    try:
        await asked.wait.aio()
    except flyte.errors.ConditionTimedoutError:
        return "timed out"
    return "answered"


EXPECT = "timed out"
