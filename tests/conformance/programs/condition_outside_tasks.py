"""Outside of a task a condition can be made, but nobody can wait for it."""

import millstream as flyte

env = flyte.TaskEnvironment("condition_outside_tasks")


def outside() -> str:
    try:
        return str(flyte.new_condition("nowhere").wait())
    except RuntimeError as exc:
        return str(exc)


TEXT = outside()


@env.task
async def main() -> str:
    return TEXT


EXPECT = "Conditions can only be awaited within a task context."
