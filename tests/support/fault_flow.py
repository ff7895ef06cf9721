"""Tasks for fault tests. Every body leaves a line in a side file before it does anything.

The file is the count of executions that does not come from the log: `<what> <pid>` lines,
appended in one write each.
"""

import asyncio
import os
import signal
import time

import millstream

env = millstream.TaskEnvironment("faults")


def mark(what: str) -> None:
    """Leave a line in the side file that `TRAIL` names."""
    path = os.environ.get("TRAIL")
    if not path:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{what} {os.getpid()}\n".encode())
    os.close(descriptor)


@env.task(retries=0)
async def leaf(n: int, seconds: float = 0.02) -> int:
    mark(f"leaf-{n}")
    await asyncio.sleep(seconds)
    mark(f"end-{n}")
    return n * n


@env.task
async def chain(length: int, seconds: float = 0.02) -> int:
    """Call one leaf after another."""
    mark("chain")
    return sum([await leaf(n, seconds) for n in range(length)])


@env.task(retries=0)
async def knot(n: int, parts: list[int], seconds: float = 0.02) -> int:
    mark(f"knot-{n}")
    await asyncio.sleep(seconds)
    return n + sum(parts)


@env.task(static=True)
async def net(seconds: float) -> int:
    """Let each node of a layer take from all of the layer before."""
    before: list[int] = []
    for layer in range(5):
        before = [await knot(4 * layer + place, before, seconds) for place in range(4)]
    return await knot(20, before, seconds)


@env.task
async def fan(width: int, seconds: float = 0.02) -> int:
    """Call all leaves at once."""
    mark("fan")
    return sum(await asyncio.gather(*(leaf(n, seconds) for n in range(width))))


@env.task(retries=0, idempotent=False)
async def once(n: int, seconds: float) -> int:
    mark(f"once-{n}")
    await asyncio.sleep(seconds)
    return n


@env.task(retries=0)
async def killer() -> None:
    mark("killer")
    os.kill(os.getpid(), signal.SIGKILL)


@env.task(retries=0)
async def stubborn(n: int) -> None:
    """Ignore every cancellation."""
    mark(f"stubborn-{n}")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            mark(f"refused-{n}")


@env.task(retries=0)
def blocked(n: int) -> None:
    """Sit in a call that no cancellation reaches."""
    mark(f"blocked-{n}")
    time.sleep(60)


@millstream.trace
async def step(n: int) -> int:
    mark(f"step-{n}")
    return n * 3


@env.task(retries=0)
async def stepped(steps: int, seconds: float) -> int:
    mark("stepped")
    total = 0
    for n in range(steps):
        total += await step(n)
        await asyncio.sleep(seconds)
    return total


@env.task
async def mixed(n: int, seconds: float) -> int:
    """Record a step and call a child, both after a wait."""
    mark(f"mixed-{n}")
    await asyncio.sleep(seconds)
    return await step(n) + await leaf(n)


@env.task(retries=0)
def item(n: int, seconds: float) -> int:
    mark(f"item-{n}")
    time.sleep(seconds)
    return n * n


@env.task
async def long_map(width: int, seconds: float) -> int:
    """Map over so many items that they share actions."""
    mark("long-map")
    total = 0
    async for result in millstream.map.aio(item, range(width), [seconds] * width):
        assert isinstance(result, int)
        total += result
    return total


@env.task
async def twice(n: int) -> int:
    return 2 * n


@env.task
async def light_map(width: int, seconds: float) -> int:
    """Map over items that cost nothing."""
    del seconds
    return len([result async for result in millstream.map.aio(twice, range(width))])


@env.task(retries=0)
def poisoned(n: int) -> int:
    mark(f"poisoned-{n}")
    if n == 700:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@env.task
async def poisoned_map(width: int) -> list[int]:
    """Map over items of which one kills its worker, again and again; return which failed."""
    found = [result async for result in millstream.map.aio(poisoned, range(width))]
    return [n for n, result in enumerate(found) if result != n]
