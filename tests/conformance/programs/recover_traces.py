"""A recorded step of a recovered run is not taken again."""

import uuid

import millstream

env = millstream.TaskEnvironment("recover_traces")


@env.task
async def draw(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}"


@millstream.trace
async def step(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}"


@env.task
async def main() -> list[str]:
    return [await step(1), await step(1), await draw(2)]


async def after(run: millstream.Run[list[str]]) -> list[bool]:
    again = await millstream.rerun.aio(run.name, recover=True)
    fresh = await millstream.rerun.aio(run.name)
    first = await run.result.aio()
    second, third = await again.result.aio(), await fresh.result.aio()
    return [first == second, any(one in third for one in first)]


EXPECT = [True, False]
