"""`gather(return_exceptions=True)` gives what failed as it was raised."""

import asyncio

import millstream

env = millstream.TaskEnvironment("gather_exceptions")


@env.task
async def child(n: int) -> float:
    return 12 / n


@env.task
async def main() -> list[str]:
    found = await asyncio.gather(*(child(n) for n in (1, 0, 3)), return_exceptions=True)
    return [type(one).__name__ if isinstance(one, Exception) else str(one) for one in found]


EXPECT = ["12.0", "ZeroDivisionError", "4.0"]
