"""A real `millstream dev` in a folder of its own, and what tests do to it.

Everything is waited for by reading the log, with a deadline; victims are killed by the pids
that the tree itself names.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from millstream._cluster_files import layout_of, read_ready
from millstream_events.audit import audit
from millstream_events.codec import decode_frame
from millstream_events.connect import Connection, connect
from millstream_events.fold import fold_entry
from millstream_events.model import Event
from millstream_events.ports import LogEntry
from millstream_events.state import RunState, ShardState

MILLSTREAM = str(Path(sys.executable).parent / "millstream")
SHARD = "lo00"
#: Bodies write `<name> <attempt>` lines here, fsynced, so that executions are counted apart
#: from the log.
FLOW = """
import asyncio, os, time
import millstream

env = millstream.TaskEnvironment("flow")

def mark(line):
    descriptor = os.open(os.environ["TRAIL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (line + "\\n").encode())
    os.fsync(descriptor)
    os.close(descriptor)

@millstream.trace
async def step(n: int) -> int:
    mark(f"step-{n}")
    return n * 100

@env.task(retries=0)
async def leaf(n: int) -> int:
    mark(f"leaf-{n}")
    await asyncio.sleep(0.02)
    return n * n

@env.task(retries=0)
def sync_leaf(n: int) -> int:
    mark(f"sync-{n}")
    time.sleep(0.01)
    return n

@env.task
async def branch(n: int, width: int) -> int:
    first = await step(n)
    parts = await asyncio.gather(*(leaf(n * 1000 + i) for i in range(width)))
    return first + sum(parts) + await sync_leaf.aio(n)

@env.task
async def root(branches: int, width: int) -> int:
    return sum([await branch(n, width) for n in range(branches)])

@env.task
async def wide(width: int) -> int:
    return sum(await asyncio.gather(*(leaf(i) for i in range(width))))

@env.task
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"
"""


def expected_root(branches: int, width: int) -> int:
    """What `root` returns."""
    return sum(
        n * 100 + sum((n * 1000 + i) ** 2 for i in range(width)) + n for n in range(branches)
    )


class DevTree:
    """One running tree."""

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.variables = variables or {}
        self.trail = folder / "trail"

    def environ(self) -> dict[str, str]:
        """Return the environment of everything started here."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MILLSTREAM_")}
        return {**kept, "TRAIL": str(self.trail), "PYTHONUNBUFFERED": "1", **self.variables}

    def ready(self) -> Any:
        """Return what `ready.json` says now."""
        return read_ready(layout_of(self.folder).ready)

    def pid(self, role: str) -> int:
        """Return the pid of a part, as the tree names it now."""
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            ready = self.ready()
            pid = getattr(ready.pids, role) if ready is not None else None
            if pid and _alive(pid):
                return int(pid)
            time.sleep(0.01)
        raise AssertionError(f"no {role}")

    def kill(self, role: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a part and return its pid."""
        pid = self.pid(role)
        os.kill(pid, number)
        return pid

    def workers(self) -> list[int]:
        """Return the pids of the worker processes: leaves of the agent's tree."""
        import psutil

        agent = psutil.Process(self.pid("agent"))
        found = []
        for each in agent.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if not each.children() and "template" not in " ".join(each.cmdline()[-1:]):
                    found.append(each.pid)
        return found

    def run(self, *arguments: str, deadline_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """Run a `millstream` command here."""
        return subprocess.run(
            [MILLSTREAM, *arguments],
            cwd=self.folder,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )

    def submit(self, task: str, name: str, **parameters: Any) -> "subprocess.Popen[str]":
        """Start a run from a client process of its own, which waits for the result."""
        options = [item for k, v in parameters.items() for item in (f"--{k}", str(v))]
        return subprocess.Popen(
            [MILLSTREAM, "run", "flow.py", task, *options, "--name", name, "-o", "json"],
            cwd=self.folder,
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def result(self, client: "subprocess.Popen[str]", deadline_s: float = 60.0) -> Any:
        """Return what a client printed, once it has ended."""
        out, err = client.communicate(timeout=deadline_s)
        assert out, err
        return json.loads(out)

    def executions(self) -> dict[str, int]:
        """Return how often each body ran."""
        counts: dict[str, int] = {}
        if self.trail.exists():
            for line in self.trail.read_text().split():
                counts[line] = counts.get(line, 0) + 1
        return counts

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Connect to the tree's server."""
        connection = await connect(self.ready().endpoint, name="test", deadline_s=10)
        try:
            yield connection
        finally:
            await connection.close()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def dev_tree(
    folder: Path, *options: str, variables: Mapping[str, str] | None = None
) -> Iterator[DevTree]:
    """Start `millstream dev` in `folder` and end it, whatever happens."""
    (folder / "flow.py").write_text(FLOW)
    tree = DevTree(folder, variables)
    process = subprocess.Popen(
        [MILLSTREAM, "dev", "-o", "json", *(options or ("--slots", "4", "--workers", "2"))],
        cwd=folder,
        env=tree.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=False,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            assert process.stderr is not None
            raise AssertionError(process.stderr.read().decode())
        yield tree
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


async def whole_log(connection: Connection) -> list[LogEntry]:
    """Return every record of the log."""
    log = connection.event_log(SHARD)
    entries: list[LogEntry] = []
    while page := await log.read(entries[-1].seq if entries else 0):
        entries += page
    return entries


def fold_all(entries: list[LogEntry]) -> ShardState:
    """Return a replay."""
    state = ShardState(SHARD)
    for entry in entries:
        fold_entry(state, entry)
    return state


async def wait_for_run(
    connection: Connection,
    name: str,
    reached: Callable[[RunState], bool],
    deadline_s: float = 30.0,
) -> RunState:
    """Return the run as soon as the log says that it has come so far."""
    log = connection.event_log(SHARD)
    state = ShardState(SHARD)
    async with asyncio.timeout(deadline_s):
        async with contextlib.aclosing(log.follow(0)) as entries:
            async for entry in entries:
                fold_entry(state, entry)
                for run in state.runs.values():
                    if run.name == name and reached(run):
                        return run
    raise AssertionError("the log ended")


def events_of(entries: list[LogEntry]) -> list[tuple[str, int, Event]]:
    """Return (key, time of the frame, event) of a log."""
    return [
        (entry.key, frame.ts_ns, event)
        for entry in entries
        for frame in [decode_frame(entry.payload, key=entry.key, seq=entry.seq)]
        for event in frame.events
        if isinstance(event, Event)
    ]


def assert_audit_is_clean(entries: list[LogEntry]) -> None:
    """Audit the log."""
    report = audit(entries, quiescent=True)
    assert not report.violations, report.violations[:10]
