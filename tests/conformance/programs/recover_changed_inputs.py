"""Calls that are the same under other inputs are taken over."""

import uuid

import millstream

env = millstream.TaskEnvironment("recover_changed_inputs")


@env.task
async def draw(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}"


@env.task
async def main(n: int = 2) -> list[str]:
    return [await draw(i) for i in range(n)]


async def after(run: millstream.Run[list[str]]) -> list[object]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        more = await millstream.rerun.aio(run.name, recover=True, n=3)
    first, second = await run.result.aio(), await more.result.aio()
    return [second[:2] == first, len(second)]


EXPECT = [True, 3]
