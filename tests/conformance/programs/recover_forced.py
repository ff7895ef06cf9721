"""A forced action is executed again, the others are not."""

import uuid

import millstream

env = millstream.TaskEnvironment("recover_forced")


@env.task
async def draw(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}"


@env.task
async def main(n: int = 2) -> list[str]:
    return [await draw(i) for i in range(n)]


async def after(run: millstream.Run[list[str]]) -> list[bool]:
    again = await millstream.rerun.aio(run.name, recover=True, force_rerun_actions=["a2", "a77"])
    first, second = await run.result.aio(), await again.result.aio()
    return [first[0] == second[0], first[1] == second[1]]


EXPECT = [True, False]
