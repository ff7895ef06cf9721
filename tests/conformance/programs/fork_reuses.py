"""A fork takes over what is the same call, and runs the root that it is given."""

import uuid

import millstream

env = millstream.TaskEnvironment("fork_reuses")


@env.task
async def draw(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}"


@env.task
async def main(n: int = 2) -> list[str]:
    return [await draw(i) for i in range(n)]


@env.task
async def other(n: int, extra: int = 1) -> list[str]:
    return [await draw(i) for i in range(n + extra)]


async def after(run: millstream.Run[list[str]]) -> list[object]:
    forked = await millstream.fork.aio(run.name, other)
    first, second = await run.result.aio(), await forked.result.aio()
    return [first == second[:2], len(second)]


EXPECT = [True, 3]
