"""A person stops a task that runs: whichever comes first wins."""

import asyncio

import millstream as flyte

env = flyte.TaskEnvironment("condition_stops_work")


@env.task
async def answer(name: str, value: str) -> None:
    run = flyte.ctx().action.run_name
    while (asked := await flyte.remote.Condition.get.aio(name, run_name=run)) is None:
        await asyncio.sleep(0.05)
    await asked.signal.aio(value)


@env.task
async def work() -> str:
    await asyncio.sleep(30)
    return "finished"


@env.task
async def main() -> str:
    stop = await flyte.new_condition.aio("stop", data_type=str)
    working = asyncio.create_task(work())
    stopping = asyncio.create_task(stop.wait.aio())
    await answer("stop", "enough")
    done, left = await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    return done.pop().result()


EXPECT = "enough"
