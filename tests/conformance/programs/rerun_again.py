"""A rerun has the same code and inputs, and executes everything again."""

import uuid

import millstream

env = millstream.TaskEnvironment("rerun_again")


@env.task
async def draw(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}"


@env.task
async def main(n: int = 2) -> list[str]:
    return [await draw(i) for i in range(n)]


async def after(run: millstream.Run[list[str]]) -> list[bool]:
    again = await millstream.rerun.aio(run.name)
    first, second = await run.result.aio(), await again.result.aio()
    return [len(first) == len(second), first != second, again.name != run.name]


EXPECT = [True, True, True]
