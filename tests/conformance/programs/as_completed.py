"""`as_completed` gives the quick ones first."""

import asyncio

import millstream

env = millstream.TaskEnvironment("as_completed")


@env.task
async def child(n: int) -> int:
    await asyncio.sleep(1.5 if n == 0 else 0)
    return n


@env.task
async def main() -> int:
    order = [await one for one in asyncio.as_completed([child(0), child(1)])]
    return order[-1]


EXPECT = 0
