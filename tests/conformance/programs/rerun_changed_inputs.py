"""A rerun may change inputs; an unknown one is refused."""

import uuid

import millstream

env = millstream.TaskEnvironment("rerun_changed_inputs")


@env.task
async def draw(n: int) -> str:
    return f"{n} {uuid.uuid4().hex}"


@env.task
async def main(n: int = 2) -> list[str]:
    return [await draw(i) for i in range(n)]


async def after(run: millstream.Run[list[str]]) -> list[object]:
    again = await millstream.rerun.aio(run.name, n=3)
    found: list[object] = [len(await again.result.aio())]
    try:
        await millstream.rerun.aio(run.name, m=3)
    except ValueError as exc:
        found.append("Known inputs: n" in str(exc))
    return found


EXPECT = [3, True]
