"""Module state is there again in the next task that the same kept worker runs."""

import millstream

policy = millstream.ReusePolicy(replicas=1, concurrency=2)
env = millstream.TaskEnvironment("reuse_state", reusable=policy)
plain = millstream.TaskEnvironment("reuse_state_plain")
CALLS: list[int] = []


@env.task
async def call(n: int) -> list[int]:
    CALLS.append(n)
    return CALLS


@plain.task
async def main() -> list[int]:
    await call(1)
    await call(2)
    return await call(3)


EXPECT = [1, 2, 3]
