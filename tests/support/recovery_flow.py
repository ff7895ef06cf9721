"""Twenty small programs for `test_recovery_corpus`, one idea each; roots take no parameters.

Every body leaves a line in the side file that `TRAIL` names before it does anything: which action
it is, what ran, and when. Results depend on nothing that a crash may change.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import millstream
from millstream.io import File

env = millstream.TaskEnvironment("recovery")
#: How long a leaf takes: long enough for a kill to land in the middle of a program.
LEAF_S = 0.04


def mark(what: str) -> None:
    """Leave `<key of the action> <what> <Unix ns>` in the side file, in one write."""
    line = f"{millstream.ctx().idempotency_key} {what} {time.time_ns()}\n"
    descriptor = os.open(os.environ["TRAIL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{os.getpid()} {line}".encode())
    os.close(descriptor)


@env.task
async def leaf(n: int) -> int:
    mark("body")
    await asyncio.sleep(LEAF_S)
    return n * n


@env.task
def sync_leaf(n: int) -> int:
    mark("body")
    time.sleep(LEAF_S)
    return n + 100


@millstream.trace
async def step(n: int) -> int:
    mark(f"step:{n}")
    await asyncio.sleep(LEAF_S)
    return n


@millstream.trace
def sync_step(n: int) -> int:
    mark(f"step:{n}")
    time.sleep(LEAF_S)
    return n


@env.task
async def chain() -> int:
    mark("body")
    total = 0
    for _ in range(5):
        total = await leaf(total + 1)
    return total % 1_000_003


@env.task
async def fan() -> list[int]:
    mark("body")
    return await asyncio.gather(*(leaf(n) for n in range(8)))


@env.task
async def branch(n: int) -> int:
    mark("body")
    return sum(await asyncio.gather(*(leaf(10 * n + i) for i in range(3))))


@env.task
async def nested() -> list[int]:
    mark("body")
    return [await branch(1), *await asyncio.gather(branch(2), branch(3))]


@env.task
async def fibonacci(n: int = 5) -> int:
    mark("body")
    if n < 2:
        return await leaf(n)
    first, second = await asyncio.gather(fibonacci(n - 1), fibonacci(n - 2))
    return first + second


@env.task
async def steps_between() -> list[int]:
    mark("body")
    return [value for n in range(4) for value in (await step(n), await leaf(n))]


@env.task
def steps_of_sync() -> list[int]:
    mark("body")
    return [value for n in range(4) for value in (sync_step(n), sync_leaf(n))]


@env.task
async def sync_children() -> list[int]:
    mark("body")
    return await asyncio.gather(*(sync_leaf.aio(n) for n in range(5)))


@env.task
async def mapped() -> list[object]:
    mark("body")
    return [n async for n in millstream.map.aio(leaf, range(7), concurrency=2)]


@env.task
async def even(n: int) -> int:
    mark("body")
    await asyncio.sleep(LEAF_S)
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n


@env.task
async def mapped_failures() -> list[str]:
    mark("body")
    return [str(one) async for one in millstream.map.aio(even, range(6))]


@env.task
async def caught() -> list[str]:
    mark("body")
    found: list[str] = []
    for n in range(5):
        try:
            found.append(str(await even(n)))
        except ValueError as exc:
            found.append(f"caught {exc}")
    return found


@env.task
async def completed() -> list[int]:
    mark("body")
    return sorted([await one for one in asyncio.as_completed([leaf(n) for n in range(6)])])


@env.task
async def grouped() -> list[int]:
    mark("body")
    async with asyncio.TaskGroup() as group:
        pending = [group.create_task(leaf(n)) for n in range(6)]
    return [one.result() for one in pending]


@env.task
async def same_calls() -> list[int]:
    """Identical calls are told apart by their number and their group."""
    mark("body")
    found = [await leaf(3), await leaf(3)]
    with millstream.group("again"):
        found += await asyncio.gather(leaf(3), leaf(3))
    return [*found, await leaf(3)]


@env.task(retries=4)
async def stumbles(n: int) -> int:
    mark("body")
    await asyncio.sleep(LEAF_S)
    if millstream.ctx().attempt_number == 0:
        raise OSError("the first time")
    return n


@env.task
async def retried() -> list[int]:
    mark("body")
    return [*await asyncio.gather(stumbles(1), stumbles(2)), await leaf(3), await stumbles(4)]


@env.task
async def naps() -> list[int]:
    mark("body")
    began = await millstream.durable.time.aio()
    found = [await leaf(1)]
    await millstream.durable.sleep.aio(0.2)
    found.append(await leaf(2))
    assert await millstream.durable.time.aio() - began >= 0.2
    return [*found, await leaf(3)]


@env.task
async def counted(to: int) -> AsyncIterator[int]:
    mark("body")
    for n in range(to):
        yield n
        await asyncio.sleep(LEAF_S / 2)


@env.task
async def yielded() -> list[int]:
    mark("body")
    return [await leaf(n) async for n in counted(4)]


@millstream.trace
async def stepwise(to: int) -> AsyncIterator[int]:
    mark("step:0")
    for n in range(to):
        yield n
        await asyncio.sleep(LEAF_S / 2)


@env.task
async def traced_generator() -> list[int]:
    mark("body")
    return [await leaf(n) async for n in stepwise(4)]


@env.task
async def forever() -> None:
    mark("body")
    await asyncio.sleep(3600)


@env.task
async def cancelled() -> list[object]:
    mark("body")
    found: list[object] = [await leaf(1)]
    try:
        async with asyncio.timeout(0.3):
            await forever()
    except TimeoutError:
        found.append("too slow")
    return [*found, await leaf(2), await leaf(3)]


@dataclass
class Stone:
    """A value that does not fit into the log."""

    name: str
    content: bytes


@env.task
async def heavy(n: int) -> Stone:
    mark("body")
    await asyncio.sleep(LEAF_S)
    return Stone(f"stone {n}", bytes([n]) * 400_000)


@env.task
async def weigh(stone: Stone) -> int:
    mark("body")
    return len(stone.content) + stone.content[0]


@env.task
async def large_values() -> list[int]:
    mark("body")
    return [await weigh(await heavy(n)) for n in range(4)]


@env.task
async def write(n: int) -> File:
    mark("body")
    file = File.new_remote(f"{n}.txt")
    async with file.open("wb") as opened:
        await opened.write(b"x" * n)
    return file


@env.task
async def read(file: File) -> int:
    mark("body")
    async with file.open("rb") as opened:
        return len(await opened.read())


@env.task
async def files() -> list[int]:
    mark("body")
    written = await asyncio.gather(*(write(n) for n in range(3)))
    return [await read(file) for file in written]


@env.task
def letters(word: str) -> Iterator[str]:
    mark("body")
    for letter in word:
        time.sleep(LEAF_S / 2)
        yield letter


@env.task
def all_sync() -> list[object]:
    mark("body")
    found: list[object] = [sync_leaf(1), *letters("abc")]
    return [*found, *millstream.map(sync_leaf, [2, 3, 4])]


PROGRAMS = (
    chain, fan, nested, fibonacci, steps_between, steps_of_sync, sync_children, mapped,
    mapped_failures, caught, completed, grouped, same_calls, retried, naps, yielded,
    traced_generator, cancelled, large_values, files, all_sync,
)  # fmt: skip
