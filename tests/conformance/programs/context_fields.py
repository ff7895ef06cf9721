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
    names = [await child(), await child()]
    assert await child.override(short_name="again")() not in names
    return [bool(ctx), OUTSIDE, action.name, len({*names, "a0"}), ctx.attempt_number, ctx.cancelled]


EXPECT = [True, False, "a0", 3, 0, False]
