"""A call that nobody awaits does not happen."""

import asyncio

import millstream

env = millstream.TaskEnvironment("never_awaited")


@env.task
async def child() -> str:
    action = millstream.ctx().action
    return action.name if action is not None else ""


@env.task
async def main() -> str:
    unused = child()
    await asyncio.sleep(0.05)
    unused.close()
    return await child()


EXPECT = "a1"
