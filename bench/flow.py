"""The tasks that are timed: one small integer in, the same out."""

import asyncio

import millstream

env = millstream.TaskEnvironment("bench")
#: The bench sets this queue's limits.
QUEUE = "bench-queued"
queued = millstream.TaskEnvironment("bench_queued", queue=QUEUE)


@env.task
async def noop(x: int) -> int:
    return x


@env.task
async def parent(n: int) -> int:
    for _ in range(n):
        await noop(7)
    return n


@env.task
async def spread(n: int) -> int:
    return sum(await asyncio.gather(*(noop(i) for i in range(n))))


@env.task
async def mapped(n: int) -> int:
    """Map over `n` items and look at every result."""
    total = 0
    async for result in millstream.map.aio(noop, range(n), return_exceptions=False):
        total += result
    return total


@env.task
async def tree(width: int, depth: int) -> int:
    """Call `width` children, each of which does the same, `depth` levels deep."""
    if depth == 0:
        return 1
    return 1 + sum(await asyncio.gather(*(tree(width, depth - 1) for _ in range(width))))


@millstream.trace
async def step(x: int) -> int:
    return x


@env.task
async def steps(n: int) -> int:
    """Record `n` steps one after the other."""
    for index in range(n):
        await step(index)
    return n


@env.task(max_inline_io_bytes=256 * 1024 * 1024)
async def echo(content: bytes) -> bytes:
    return content


@queued.task
async def hold(seconds: float) -> float:
    """Keep a slot busy."""
    await asyncio.sleep(seconds)
    return seconds


@env.task
async def parked() -> None:
    """Wait without a slot, for longer than any bench takes."""
    await millstream.durable.sleep.aio(3_600.0)


@env.task
async def crowd(n: int) -> int:
    """Call `n` children that hold their slots until they are aborted."""
    return len(await asyncio.gather(*(hold(3_600.0) for _ in range(n))))


@env.task
async def crowds(sizes: list[int]) -> int:
    """Call a `crowd` of each size: one parent alone has only so many children open at once."""
    return sum(await asyncio.gather(*map(crowd, sizes)))
