"""Several async tasks run at once in one kept worker, more than there are slots."""

import asyncio

import millstream

policy = millstream.ReusePolicy(replicas=1, concurrency=8)
env = millstream.TaskEnvironment("reuse_concurrency", reusable=policy)
plain = millstream.TaskEnvironment("reuse_concurrency_plain")
HERE: set[int] = set()
ALL_HERE = asyncio.Event()


@env.task
async def meet(n: int) -> int:
    HERE.add(n)
    if len(HERE) == 8:
        ALL_HERE.set()
    await ALL_HERE.wait()
    return len(HERE)


@plain.task
async def main() -> list[int]:
    return await asyncio.gather(*(meet(n) for n in range(8)))


EXPECT = [8] * 8
