"""A name can be asked under again when its condition is over, not before."""

import millstream as flyte

env = flyte.TaskEnvironment("condition_same_name")


@env.task
async def main() -> list[str]:
    found = []
    for _ in range(2):
        asked = await flyte.new_condition.aio("again", timeout=0.1)
        try:
            await flyte.new_condition.aio("again")
        except flyte.errors.ConditionAlreadyExistsError as exc:
            found.append(exc.code)
        try:
            await asked.wait.aio()
        except flyte.errors.ConditionTimedoutError as exc:
            found.append(exc.code)
    return found


EXPECT = ["ConditionAlreadyExistsError", "ConditionTimedoutError"] * 2
