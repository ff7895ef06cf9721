"""What many actions that wait cost: the leader's memory, everybody's CPU, a run beside them."""

import time
from collections.abc import Callable
from functools import cache
from typing import Final

import millstream
from bench import flow
from bench.life import MIB, Spent, leader, log_entries
from bench.machine import Peak, percentile
from bench.rows import Figures
from millstream._context import OPEN_CALLS_MAX
from millstream._remote_queue import Queue
from millstream_events.codec import decode_frame
from millstream_events.model import ActionRequested

#: One slot is kept for runs beside those that wait.
RUNNING: Final = 1
BESIDE_RUNS: Final = 50
LOOK_S: Final = 0.2
#: The bench gives up when nothing has moved for so long.
STALLED_S: Final = 60.0


def queued(count: int) -> Callable[[], Figures]:
    """`count` actions of one run that wait in the leader."""

    def once() -> Figures:
        _limit_queue()
        leading = leader()
        spent = Spent()
        with Peak(leading) as queueing:
            began = time.perf_counter()
            run, requested = _start(count)
            _await_requests(run.id, requested)
            accepted = time.perf_counter() - began
        each_us = spent.each_us(count)
        beside = _beside()
        began = time.perf_counter()
        with Peak(leading) as ending:
            run.abort("measured")
            run.wait(quiet=True)
        return {
            **queueing.grown(f"queue{count}_leader_rss", count),
            f"queue{count}_leader_cpu": (each_us["scheduler"], "us/action", count),
            f"queue{count}_cpu": (sum(each_us.values()), "us/action", count),
            f"queue{count}_accepted": (count / accepted, "tasks/s", count),
            f"queue{count}_lat_p50": (percentile(beside, 0.5), "ms", BESIDE_RUNS),
            f"queue{count}_abort": (time.perf_counter() - began, "s", count),
            f"queue{count}_abort_leader_rss": (ending.rss_bytes / MIB, "MiB", count),
        }

    return once


@cache
def _limit_queue() -> None:
    """Set the queue's limits, once: whoever does that reads the shard's whole log."""
    Queue.create(flow.QUEUE, action_concurrency=RUNNING, depth=0)


def _start(count: int) -> tuple[millstream.Run[int], int]:
    """Start a run with `count` actions that wait, and return how many it requests in all."""
    if count <= OPEN_CALLS_MAX:
        return millstream.run(flow.crowd, count), count
    sizes = [min(OPEN_CALLS_MAX, count - first) for first in range(0, count, OPEN_CALLS_MAX)]
    return millstream.run(flow.crowds, sizes), count + len(sizes)


def _await_requests(run: str, count: int) -> None:
    """Return when the run's log has requested `count` actions."""
    seq = known = 0
    moved = time.monotonic()
    while True:
        for entry in log_entries(run, seq):
            seq = entry.seq
            frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
            known += sum(isinstance(event, ActionRequested) for event in frame.events)
            moved = time.monotonic()
        if known >= count:
            return
        stalled_s = time.monotonic() - moved
        assert stalled_s < STALLED_S, f"{known} of {count} actions came, and no more"
        time.sleep(LOOK_S)


def _beside() -> list[float]:
    """Return how long runs of one no-op task take now, in ms."""
    spans: list[float] = []
    for _ in range(BESIDE_RUNS):
        began = time.perf_counter()
        millstream.run(flow.noop, 7).result()
        spans.append((time.perf_counter() - began) * 1e3)
    return spans
