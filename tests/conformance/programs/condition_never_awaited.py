"""A condition that nobody waits for does not keep its task from ending."""

import millstream as flyte

env = flyte.TaskEnvironment("condition_never_awaited")


@env.task
async def main() -> str:
    await flyte.new_condition.aio("ignored", prompt="Anybody?")
    return "done"


EXPECT = "done"
