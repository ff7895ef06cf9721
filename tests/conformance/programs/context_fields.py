"""A task knows where it runs; outside there is nothing to know."""

import millstream

env = millstream.TaskEnvironment("context_fields")

OUTSIDE = bool(millstream.ctx())


@env.task
async def child() -> str:
    action = millstream.ctx().action
    return action.name if action is not None else ""


@env.task
async def main() -> list[object]:
    ctx = millstream.ctx()
    action = ctx.action
    assert action is not None
    return [bool(ctx), OUTSIDE, action.name, await child(), ctx.attempt_number, ctx.cancelled]


EXPECT = [True, False, "a0", "a1", 0, False]
