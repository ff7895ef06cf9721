"""anyio's task groups work: on success they collect, on a failure they cancel the others."""

import anyio

import millstream

env = millstream.TaskEnvironment("anyio_group")


@env.task
async def child(n: int) -> int:
    if n < 0:
        raise ValueError("negative")
    await anyio.sleep(0.01 if n < 10 else 60)
    return n * n


@env.task
async def main() -> list[object]:
    found: dict[int, int] = {}

    async def keep(n: int) -> None:
        found[n] = await child(n)

    async with anyio.create_task_group() as group:
        for n in range(4):
            group.start_soon(keep, n)
    result: list[object] = [found[n] for n in sorted(found)]
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(keep, 10)
            group.start_soon(keep, -1)
    except* ValueError as several:
        result += [str(exc) for exc in several.exceptions]
    return result


EXPECT = [0, 1, 4, 9, "negative"]
