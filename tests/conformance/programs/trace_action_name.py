"""Inside a trace the action is the step, and the task's own action stays what it is."""

import millstream

env = millstream.TaskEnvironment("trace_action_name")


@millstream.trace
async def step(n: int) -> list[str]:
    ctx = millstream.ctx()
    assert ctx.action is not None
    assert ctx.task_action is not None
    return [ctx.action.name, ctx.task_action.name, ctx.action.run_name or ""]


@env.task
async def main() -> list[bool]:
    before = millstream.ctx().action
    first, second = await step(1), await step(2)
    after = millstream.ctx().action
    assert before is not None
    return [
        first[0] != before.name,
        first[0] != second[0],
        first[1] == second[1] == before.name == "a0",
        first[2] == before.run_name,
        after == before,
    ]


EXPECT = [True, True, True, True, True]
