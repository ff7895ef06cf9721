"""What a cluster costs beside the work: start, memory, CPU, replay, a new leader."""

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

import millstream
from bench import flow
from bench.rows import Figures
from millstream._init import installation
from millstream._reader import read_entries
from millstream._syncify import background
from millstream_events.codec import decode_frame
from millstream_events.fold import fold_entry
from millstream_events.ports import LogEntry
from millstream_events.state import ShardState

ROOT = Path(__file__).resolve().parent.parent
IDLE_S = 5.0
CPU_CHILDREN = 5_000
CPU_CHAIN = 500
CPU_RUNS = 500
MIB = 1024 * 1024
#: The kinds of a cluster's processes: how their command lines are told apart, in this order.
KINDS = {
    "snapshot": "millstream_scheduler.snapshot",
    "nats": "nats-server",
    "scheduler": "millstream_scheduler",
    "agent": "millstream_executor",
}


def cold() -> Figures:
    """`millstream run` of a hello program with no cluster running, to the end of its result."""
    command = [str(Path(sys.executable).parent / "millstream"), "run", "hello.py", "hello"]
    with tempfile.TemporaryDirectory(prefix="millstream-cold-") as folder:
        shutil.copy(ROOT / "bench" / "hello.py", folder)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MILLSTREAM_")}
        began = time.perf_counter()
        with subprocess.Popen(
            [*command, "-o", "json"], cwd=folder, env=environ, stdout=subprocess.PIPE
        ) as program:
            assert program.stdout is not None
            printed = program.stdout.readline()
            span = time.perf_counter() - began
            printed += program.stdout.read()
        assert program.returncode == 0, program.returncode
        assert b"SUCCEEDED" in printed, printed
    return {"cold_start": (span, "s", 1)}


def processes() -> dict[str, list[psutil.Process]]:
    """Return the processes of the embedded cluster by kind; workers and templates are `worker`."""
    found: dict[str, list[psutil.Process]] = {kind: [] for kind in (*KINDS, "worker", "dev")}
    agents: set[int] = set()
    for each in psutil.Process().children(recursive=True):
        try:
            line = " ".join(each.cmdline())
            kind = next((kind for kind, part in KINDS.items() if part in line), "dev")
            if kind == "agent":
                kind = "agent" if each.ppid() not in agents else "worker"
                agents.add(each.pid)
            found[kind].append(each)
        except psutil.Error:
            continue
    return found


def mem() -> Figures:
    """Memory and CPU of a cluster that has nothing to do, the client left out."""
    own = [each for group in processes().values() for each in group]
    rss = sum(each.memory_info().rss for each in own)
    pss = sum(each.memory_full_info().pss for each in own)
    before = _cpu_s(own)
    time.sleep(IDLE_S)
    share = (_cpu_s(own) - before) / IDLE_S * 100
    return {
        "mem_idle_rss": (rss / MIB, "MiB", len(own)),
        "mem_idle_pss": (pss / MIB, "MiB", len(own)),
        "cpu_idle": (share, "%", len(own)),
    }


def cpu() -> Figures:
    """CPU time by kind of process: for a child of a fan-out, of a chain, and for a lone run."""

    def lone() -> None:
        for _ in range(CPU_RUNS):
            millstream.run(flow.noop, 7).result()

    return {
        **_cpu("cpu", CPU_CHILDREN, lambda: millstream.run(flow.spread, CPU_CHILDREN).result()),
        **_cpu("cpu_chain", CPU_CHAIN, lambda: millstream.run(flow.parent, CPU_CHAIN).result()),
        **_cpu("cpu_lat", CPU_RUNS, lone),
    }


def _cpu(name: str, count: int, work: Callable[[], object]) -> Figures:
    spent = Spent()
    work()
    each_us = spent.each_us(count)
    return {f"{name}_{kind}": (each_us[kind], "us/action", count) for kind in each_us}


class Spent:
    """CPU time that the cluster has used since this was made, and the client as well."""

    def __init__(self) -> None:
        self._before = {each: _cpu_s([each]) for group in processes().values() for each in group}
        self._client_s = sum(os.times()[:2])

    def each_us(self, count: int) -> dict[str, float]:
        """Return microseconds by kind of process, for each of `count` actions.

        One that has ended meanwhile, such as most snapshots, is not counted.
        """
        spent_s = {
            kind: sum(_cpu_s([each]) - self._before.get(each, 0.0) for each in group)
            for kind, group in processes().items()
        }
        spent_s["client"] = sum(os.times()[:2]) - self._client_s
        return {kind: each_s / count * 1e6 for kind, each_s in spent_s.items()}


def leader() -> psutil.Process:
    """Return the process of the scheduler that leads."""
    return max(processes()["scheduler"], key=lambda each: each.memory_info().rss)


def replay() -> Figures:
    """Folding the whole log of this bench again, as a new leader does."""
    entries = log_entries()
    events = sum(
        len(decode_frame(entry.payload, key=entry.key, seq=entry.seq).events) for entry in entries
    )
    state = ShardState("lo00")
    with rare_collections():
        began = time.perf_counter()
        for entry in entries:
            fold_entry(state, entry)
        span = time.perf_counter() - began
    return {"replay": (events / span, "events/s", events)}


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Have garbage collected as rarely as in the scheduler's process: millions of objects live."""
    thresholds = gc.get_threshold()
    gc.set_threshold(50_000, 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def takeover() -> Figures:
    """The scheduler is killed; how long until the next run's result."""
    leading = leader()
    began = time.perf_counter()
    os.kill(leading.pid, signal.SIGKILL)
    millstream.run(flow.noop, 7).result()
    return {"takeover": (time.perf_counter() - began, "s", 1)}


def log_entries(key: str | None = None, after_seq: int = 0) -> list[LogEntry]:
    """Return what the log has, or what it has of one run, after a sequence."""

    async def read() -> list[LogEntry]:
        client = await installation().client("remote")
        return [entry async for entry in read_entries(client.log, key=key, after_seq=after_seq)]

    return background.run(read())


def _cpu_s(group: list[psutil.Process]) -> float:
    spent = 0.0
    for each in group:
        try:
            times = each.cpu_times()
        except psutil.Error:
            continue
        spent += times.user + times.system
    return spent
