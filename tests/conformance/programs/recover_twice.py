"""A recovery takes over what succeeded, and so does a recovery of it."""

import uuid

import millstream

env = millstream.TaskEnvironment("recover_twice")


@env.task
async def draw(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}"


@env.task
async def main(n: int = 2) -> list[str]:
    return [await draw(i) for i in range(n)]


async def after(run: millstream.Run[list[str]]) -> list[bool]:
    second = await millstream.rerun.aio(run.name, recover=True)
    await second.wait.aio()
    third = await millstream.rerun.aio(second.name, recover=True)
    results = [await each.result.aio() for each in (run, second, third)]
    return [results[0] == results[1] == results[2], run.relation is None]


EXPECT = [True, True]
