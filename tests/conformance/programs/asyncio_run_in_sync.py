"""A sync task has no running loop, so it may start one of its own."""

import asyncio

import millstream

env = millstream.TaskEnvironment("asyncio_run_in_sync")


async def gathered() -> list[int]:
    async def one(n: int) -> int:
        await asyncio.sleep(0.001)
        return n

    return list(await asyncio.gather(one(1), one(2)))


@env.task
def main() -> list[int]:
    return asyncio.run(gathered())


EXPECT = [1, 2]
