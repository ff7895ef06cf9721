"""How much goes through, and how late it gets under load."""

import asyncio
import time
from collections.abc import Callable

import millstream
from bench import flow
from bench.life import MIB, Spent, leader
from bench.machine import Peak, percentile
from bench.rows import Figures
from millstream._syncify import background

#: Runs that wait while a fan-out of so many is timed.
LIVE_RUNS = (10, 100, 1_000, 10_000)
LIVE_FAN = 2_000
RUNS = 2_000
#: Runs that wait for their result at once.
RUNS_OPEN_MAX = 256
#: Arrivals each second, for so long; a rate whose backlog grows is the last.
OPEN_RATES = (50, 100, 200, 400, 800, 1_600)
OPEN_S = 3.0
OPEN_LATE_MS = 500.0


def fan(size: int) -> Callable[[], Figures]:
    """A parent that calls `size` children at once."""

    def once() -> Figures:
        spent = Spent()
        with Peak(leader()) as peak:
            began = time.perf_counter()
            millstream.run(flow.spread, size).result()
            span = time.perf_counter() - began
        each_us = spent.each_us(size)
        return {
            f"fan{size}": (size / span, "tasks/s", size),
            f"fan{size}_cpu": (sum(each_us.values()), "us/action", size),
            f"fan{size}_leader_cpu": (each_us["scheduler"], "us/action", size),
            **peak.grown(f"fan{size}_leader_rss", size),
        }

    return once


def live(count: int) -> Callable[[], Figures]:
    """What a task of a fan-out costs beside `count` runs that wait, which end afterwards."""

    async def started() -> list[millstream.Run[None]]:
        room = asyncio.Semaphore(RUNS_OPEN_MAX)

        async def one() -> millstream.Run[None]:
            async with room:
                return await millstream.run.aio(flow.parked)

        return list(await asyncio.gather(*(one() for _ in range(count))))

    async def ended(waiting: list[millstream.Run[None]]) -> None:
        room = asyncio.Semaphore(RUNS_OPEN_MAX)

        async def one(run: millstream.Run[None]) -> None:
            async with room:
                await run.abort.aio("measured")

        await asyncio.gather(*map(one, waiting))

    def once() -> Figures:
        waiting = background.run(started())
        try:
            began = time.perf_counter()
            millstream.run(flow.spread, LIVE_FAN).result()
            span = time.perf_counter() - began
        finally:
            background.run(ended(waiting))
        return {f"live{count}": (span / LIVE_FAN * 1e6, "us/task", LIVE_FAN)}

    return once


def mapped(size: int) -> Callable[[], Figures]:
    """A parent that maps over `size` items; the leader's memory is looked at all the while."""

    def once() -> Figures:
        with Peak(leader()) as peak:
            began = time.perf_counter()
            total = millstream.run(flow.mapped, size).result()
            span = time.perf_counter() - began
        assert total == size * (size - 1) // 2, total
        return {
            f"map{size}": (size / span, "items/s", size),
            f"map{size}_total": (span, "s", size),
            f"map{size}_leader_rss": (peak.rss_bytes / MIB, "MiB", size),
        }

    return once


def runs() -> Figures:
    """Tiny runs from one client, submit to result, many under way at once."""

    async def all_of_them() -> None:
        room = asyncio.Semaphore(RUNS_OPEN_MAX)

        async def one() -> None:
            async with room:
                run = await millstream.run.aio(flow.noop, 7)
                await run.result.aio()

        await asyncio.gather(*(one() for _ in range(RUNS)))

    began = time.perf_counter()
    background.run(all_of_them())
    return {"runs": (RUNS / (time.perf_counter() - began), "runs/s", RUNS)}


def open_loop(rate: int) -> Callable[[], Figures]:
    """Runs that arrive at a fixed rate whether or not the former are over.

    Latency is counted from the time at which a run was due, so a stall is paid for by all
    that were due meanwhile (no coordinated omission).
    """

    async def arrivals() -> list[float]:
        spans: list[float] = []
        began = time.perf_counter()

        async def one(due: float) -> None:
            run = await millstream.run.aio(flow.noop, 7)
            await run.result.aio()
            spans.append((time.perf_counter() - due) * 1e3)

        async with asyncio.TaskGroup() as group:
            for index in range(round(rate * OPEN_S)):
                due = began + index / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(one(due))
        return spans

    def once() -> Figures:
        spans = background.run(arrivals())
        return {
            f"open{rate}_p50": (percentile(spans, 0.5), "ms", len(spans)),
            f"open{rate}_p99": (percentile(spans, 0.99), "ms", len(spans)),
        }

    return once
