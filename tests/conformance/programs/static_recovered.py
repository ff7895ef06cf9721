"""A recovery takes over the nodes that succeeded, small and large, and executes the others."""

import uuid

import millstream

env = millstream.TaskEnvironment("static_recovered")


@env.task
async def draw(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}" * (1 if n < 2 else 1000)


@env.task
async def join(parts: list[str]) -> list[str]:
    return [*parts, uuid.uuid4().hex]


@env.task(static=True)
async def main(n: int = 1) -> list[str]:
    return await join([await draw(n), await draw(2)])


async def after(run: millstream.Run[list[str]]) -> list[object]:
    first = await run.result.aio()
    listed = [each async for each in millstream.remote.Action.listall.aio(run.name)]
    last = next(each.name for each in listed if each.task_name == "static_recovered.join")
    again = await millstream.rerun.aio(run.name, recover=True, force_rerun_actions=[last])
    second = await again.result.aio()
    forked = await (await millstream.fork.aio(run, main)).result.aio()
    changed = await (await millstream.rerun.aio(run.name, n=0)).result.aio()
    alone = await (await millstream.rerun.aio(run.name, action_name=last)).result.aio()
    details = await millstream.remote.ActionDetails.get.aio(run_name=run.name, name=last)
    inputs = await details.inputs()
    return [
        first[:2] == second[:2],
        first[2] == second[2],
        forked == first,
        changed[0][:1],
        alone[:2] == first[:2],
        inputs["parts"] == first[:2],
    ]


EXPECT = [True, False, True, "0", True, True]
