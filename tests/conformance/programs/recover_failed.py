"""A run that failed is recovered with inputs that heal it."""

import uuid

import millstream

env = millstream.TaskEnvironment("recover_failed")


@env.task
async def draw(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}"


@env.task
async def main(fails: bool = True) -> list[str]:
    drawn = [await draw(1)]
    if fails:
        raise ValueError(drawn[0])
    return drawn


async def after(run: millstream.Run[list[str]]) -> list[bool]:
    import warnings

    try:
        await run.result.aio()
    except ValueError as exc:
        drawn = str(exc)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        healed = await millstream.rerun.aio(run.name, recover=True, fails=False)
    found = await healed.result.aio()
    phases = [
        each.phase.value
        async for each in millstream.remote.Action.listall.aio(healed.name, parent_name="a0")
    ]
    return [found == [drawn], phases == ["recovered"]]


EXPECT = [True, True]
