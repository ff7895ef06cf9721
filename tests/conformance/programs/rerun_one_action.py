"""An action can be run alone, with the inputs that it got."""

import uuid

import millstream

env = millstream.TaskEnvironment("rerun_one_action")


@env.task
async def draw(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}"


@env.task
async def main(n: int = 2) -> list[str]:
    return [await draw(i) for i in range(n)]


async def after(run: millstream.Run[list[str]]) -> list[object]:
    alone = await millstream.rerun.aio(run.name, action_name="a2")
    result = await alone.result.aio()
    return [str(result)[:2], result in await run.result.aio()]


EXPECT = ["1 ", False]
