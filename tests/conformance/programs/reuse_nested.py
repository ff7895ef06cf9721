"""A parent that waits does not starve its children, even of one worker for one task."""

import asyncio
import warnings

import millstream

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    policy = millstream.ReusePolicy(replicas=1, concurrency=1)
env = millstream.TaskEnvironment("reuse_nested", reusable=policy)


@env.task
async def leaf(n: int) -> int:
    return n * n


@env.task
async def main() -> list[int]:
    return await asyncio.gather(*(leaf(n) for n in range(6)))


EXPECT = [0, 1, 4, 9, 16, 25]
