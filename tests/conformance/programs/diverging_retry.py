"""A retry that asks for something else than the attempt before it still has its result."""

import millstream

env = millstream.TaskEnvironment("diverging_retry")


@env.task
async def child(n: int) -> int:
    return n


@env.task(retries=1)
async def wavers() -> int:
    attempt = millstream.ctx().attempt_number
    found = await child(attempt or 0)
    if attempt == 0:
        raise OSError("again")
    return found


@env.task
async def main() -> int:
    return await wavers()


EXPECT = 1
