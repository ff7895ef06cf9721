"""Millstream beside other systems on the same machine: `python -m bench.peers [PEER ...]`.

Ours and each peer that can be imported here take turns, A B A B, with the same no-op task, two
worker processes and the same metrics; ratios of the medians are printed, below 1 where
Millstream is faster. Peers that keep nothing and peers that sync each step stand side by side:
mind the column that says what survives a crash.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import millstream
from bench import flow, peer_tasks
from bench.machine import percentile
from bench.rows import Figures, Row, median, repeats
from millstream._init import shutdown

ROUNDS = 3
CALLS = 200
CHILDREN = 100
FAN = 2_000
WARM = 50


class Peer(Protocol):
    """One system, started."""

    #: What an acknowledged result survives.
    durability: str

    def call(self) -> None:
        """Run the no-op once and wait for its result."""
        ...

    def chain(self, children: int) -> None:
        """Run a parent that calls children one after the other."""
        ...

    def fan(self, size: int) -> None:
        """Run so many at once and wait for all."""
        ...

    def close(self) -> None:
        """End everything that was started."""
        ...


class Ours:
    """Millstream, embedded."""

    def __init__(self, durability: str = "interval") -> None:
        self.durability = durability
        self._folder = tempfile.TemporaryDirectory(prefix="millstream-bench-")
        self._former = Path.cwd()
        os.chdir(self._folder.name)
        root = Path(__file__).resolve().parent.parent
        millstream.init(root_dir=root, slots=2, workers=2, durability=durability)

    def call(self) -> None:
        """Run the no-op from this process."""
        millstream.run(flow.noop, 7).result()

    def chain(self, children: int) -> None:
        """Call children inside a parent task."""
        millstream.run(flow.parent, children).result()

    def fan(self, size: int) -> None:
        """Call all children of one parent at once."""
        millstream.run(flow.spread, size).result()

    def close(self) -> None:
        """End the cluster."""
        shutdown()
        os.chdir(self._former)
        self._folder.cleanup()


class Pool:
    """`concurrent.futures.ProcessPoolExecutor`; the caller is the parent."""

    durability = "none"

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(2)

    def call(self) -> None:
        """Submit once."""
        self._pool.submit(peer_tasks.noop, 7).result()

    def chain(self, children: int) -> None:
        """Submit one after the other."""
        for _ in range(children):
            self.call()

    def fan(self, size: int) -> None:
        """Submit all, gather all."""
        for future in [self._pool.submit(peer_tasks.noop, 7) for _ in range(size)]:
            future.result()

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown()


class RayActors:
    """Ray, two actors: its fastest way to call."""

    durability = "none"

    def __init__(self) -> None:
        self._ray: Any = importlib.import_module("ray")
        self._ray.init(num_cpus=4, logging_level="ERROR", include_dashboard=False)
        actor = self._ray.remote(peer_tasks.Actor)
        self._actors = [actor.remote() for _ in range(2)]
        self._parent = self._ray.remote(peer_tasks.RayParent).remote(self._actors[0])

    def call(self) -> None:
        """Call an actor once."""
        self._ray.get(self._actors[0].noop.remote(7))

    def chain(self, children: int) -> None:
        """Let an actor call another one."""
        self._ray.get(self._parent.chain.remote(children))

    def fan(self, size: int) -> None:
        """Call both actors in turn."""
        self._ray.get([self._actors[n % 2].noop.remote(n) for n in range(size)])

    def close(self) -> None:
        """End Ray's processes."""
        self._ray.shutdown()


class DaskLocal:
    """Dask's LocalCluster with two worker processes; the caller is the parent of `chain`."""

    durability = "none"

    def __init__(self) -> None:
        distributed: Any = importlib.import_module("distributed")
        self._client = distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        self._calls = 0

    def call(self) -> None:
        """Submit once; a new argument each time, since Dask keeps results by key."""
        self._calls += 1
        self._client.submit(peer_tasks.noop, self._calls, pure=False).result()

    def chain(self, children: int) -> None:
        """Submit one after the other."""
        for _ in range(children):
            self.call()

    def fan(self, size: int) -> None:
        """Map and gather."""
        self._client.gather(self._client.map(peer_tasks.noop, range(size), pure=False))

    def close(self) -> None:
        """End the workers."""
        self._client.shutdown()


#: Peer -> the module that must be there, and how it is started.
PEERS: dict[str, tuple[str, Callable[[], Peer]]] = {
    "processpool": ("concurrent.futures", Pool),
    "ray-actor": ("ray", RayActors),
    "dask-local": ("distributed", DaskLocal),
}


def figures_of(peer: Peer) -> Figures:
    """Take every metric once."""
    spans: list[float] = []
    for index in range(WARM + CALLS):
        began = time.perf_counter()
        peer.call()
        if index >= WARM:
            spans.append((time.perf_counter() - began) * 1e3)
    peer.chain(10)
    began = time.perf_counter()
    peer.chain(CHILDREN)
    chained = (time.perf_counter() - began) * 1e3 / CHILDREN
    peer.fan(100)
    began = time.perf_counter()
    peer.fan(FAN)
    fanned = (time.perf_counter() - began) * 1e3 / FAN
    return {
        "lat_p50": (percentile(spans, 0.5), "ms", CALLS),
        "chain_per_child": (chained, "ms", CHILDREN),
        "fan_per_task": (fanned, "ms", FAN),
    }


def measure(names: list[str]) -> Iterator[Row]:
    """Yield the rows of every system, in turn."""
    makers: dict[str, Callable[[], Peer]] = {
        "millstream": Ours,
        "millstream-disk": lambda: Ours("disk"),
        **{name: PEERS[name][1] for name in names},
    }
    for _ in range(ROUNDS):
        for name, make in makers.items():
            peer = make()
            try:
                once = peer

                def take(once: Peer = once) -> Figures:
                    return figures_of(once)

                yield from repeats(take, peer.durability, times=1, peer=name)
            finally:
                peer.close()


def ratios(rows: list[Row]) -> str:
    """Return each peer's medians, and ours divided by them."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    names = list(dict.fromkeys(row["peer"] for row in rows))
    of = {
        (name, metric): median(
            [row for row in rows if row["peer"] == name and row["metric"] == metric]
        )
        for name in names
        for metric in metrics
    }
    survives = {row["peer"]: row["durability"] for row in rows}
    lines = [f"{'peer':<18}{'survives':<11}" + "".join(f"{m + ', ms':>22}" for m in metrics)]
    for name in names:
        cells = ""
        for metric in metrics:
            ratio = of["millstream", metric] / of[name, metric]
            cells += f"{of[name, metric]:>13.3f} (x{ratio:5.2f})"
        lines.append(f"{name:<18}{survives[name]:<11}{cells}")
    return "\n".join(lines)


def main() -> int:
    """Time ours and every peer that is installed, and print the ratios."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("peers", nargs="*", choices=[*PEERS, []])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    wanted = asked.peers or [name for name, (module, _) in PEERS.items() if _installed(module)]
    rows: list[Row] = []
    for row in measure(wanted):
        rows.append(row)
        if asked.json:
            print(json.dumps(row), flush=True)
    print(ratios(rows), file=sys.stderr if asked.json else sys.stdout)
    return 0


def _installed(module: str) -> bool:
    found: ModuleType | object | None = importlib.util.find_spec(module.partition(".")[0])
    return found is not None


if __name__ == "__main__":
    raise SystemExit(main())
