"""A forced action is reached through callers that had succeeded."""

import uuid

import millstream

env = millstream.TaskEnvironment("recover_nested")


@env.task
async def draw(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}"


@env.task
async def middle(n: int) -> list[str]:
    return [await draw(n), await draw(n + 10)]


@env.task
async def main() -> list[list[str]]:
    return [await middle(0), await middle(1)]


async def after(run: millstream.Run[list[list[str]]]) -> list[bool]:
    listed = [each async for each in millstream.remote.Action.listall.aio(run.name)]
    inner = next(each.name for each in listed if each.parent_name == "a1")
    again = await millstream.rerun.aio(run.name, recover=True, force_rerun_actions=[inner])
    first, second = await run.result.aio(), await again.result.aio()
    return [first[0][0] == second[0][0], first[0][1] == second[0][1], first[1] == second[1]]


EXPECT = [False, True, True]
