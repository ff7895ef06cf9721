"""A task may call itself."""

import asyncio

import millstream

env = millstream.TaskEnvironment("recursion")


@env.task
async def main(n: int = 6) -> int:
    if n < 2:
        return n
    before, last = await asyncio.gather(main(n - 2), main(n - 1))
    return before + last


EXPECT = 8
