"""How long one thing takes while nothing else is asked for."""

import time
from collections.abc import Callable

import millstream
from bench import flow
from bench.machine import percentile
from bench.rows import Figures

LAT_RUNS = 500
CHAIN_CHILDREN = 100
STEPS = 1_000
TREE_WIDTH, TREE_DEPTH = 4, 5
PAYLOAD_BYTES = (1_000, 100_000, 1_000_000, 10_000_000, 100_000_000)


def lat() -> Figures:
    """One run of a no-op task at a time, from this process, submit to result."""
    spans: list[float] = []
    for _ in range(LAT_RUNS):
        began = time.perf_counter()
        millstream.run(flow.noop, 7).result()
        spans.append((time.perf_counter() - began) * 1e3)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "min": 0.0}
    return {
        f"lat_{name}": (percentile(spans, share), "ms", LAT_RUNS) for name, share in shares.items()
    }


def chain() -> Figures:
    """A parent in a worker that calls children one after the other."""
    began = time.perf_counter()
    millstream.run(flow.parent, CHAIN_CHILDREN).result()
    span = (time.perf_counter() - began) * 1e3
    return {"chain_per_child": (span / CHAIN_CHILDREN, "ms", CHAIN_CHILDREN)}


def tree() -> Figures:
    """Tasks that call tasks: every inner node waits for its own children."""
    began = time.perf_counter()
    nodes = millstream.run(flow.tree, TREE_WIDTH, TREE_DEPTH).result()
    return {"tree": (nodes / (time.perf_counter() - began), "tasks/s", nodes)}


def step() -> Figures:
    """A `trace` step, recorded; the run ends when the last of them is durable."""
    began = time.perf_counter()
    millstream.run(flow.steps, STEPS).result()
    return {"durable_step": ((time.perf_counter() - began) * 1e3 / STEPS, "ms", STEPS)}


def payload(size: int) -> Callable[[], Figures]:
    """A task that returns the bytes it is given; from `INLINE_BYTES_MAX` on as blobs."""

    def once() -> Figures:
        content = bytes(size)
        began = time.perf_counter()
        assert len(millstream.run(flow.echo, content).result()) == size
        return {f"payload_{size}": ((time.perf_counter() - began) * 1e3, "ms", 1)}

    return once
