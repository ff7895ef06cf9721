"""The supervisor's loop: restarts, readiness, and the orderly end of a local cluster."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from millstream._cluster_files import Pids, Ready, write_private
from millstream._cluster_plan import STEADY_S, SupervisorConfig, restart_delay_s
from millstream._cluster_probe import describe, open_probe
from millstream_events.errors import BusError

#: Between two looks at a cluster that is not ready yet, at the users of one that is to end,
#: and at children on a system without pidfds.
_LOOK_S: Final = 0.02
#: Between two looks at the starter and at adopted orphans.
_TICK_S: Final = 0.5

OnReady = Callable[[Ready], None]


class SupervisedChild(Protocol):
    """One child process, over all its lives: `_supervisor.Child`."""

    name: str
    stop_s: float
    #: Monotonic time of the last start.
    started_s: float

    @property
    def pid(self) -> int | None:
        """The process id, or None while it is down."""
        ...

    def start(self) -> None:
        """Start it; from the main thread only."""
        ...

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        ...

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is there."""
        ...


class Supervisor:
    """Keeps the children of one local cluster alive until it is told to end."""

    def __init__(
        self,
        config: SupervisorConfig,
        children: Sequence[SupervisedChild],
        on_ready: OnReady | None,
    ) -> None:
        self._config = config
        self._children = children
        self._on_ready = on_ready
        self._ending = asyncio.Event()
        self._published = False
        self._starter = os.getppid()
        #: Deaths in a row of each child before it had been up for `STEADY_S`.
        self._failures = [0] * len(children)

    async def run(self, *, watch_stdin: bool) -> None:
        """Supervise until SIGTERM, SIGINT or the end of the starter, then end everything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_end)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._keep(index)) for index in range(len(self._children))]
            tasks.append(group.create_task(self._announce()))
            tasks.append(group.create_task(self._reap_orphans()))
            if watch_stdin:
                tasks.append(group.create_task(self._watch_starter()))
            await self._ending.wait()
            for task in tasks:
                task.cancel()
        await self._end()

    def _told_to_end(self) -> None:
        # Told twice: somebody is impatient, so nobody is waited for any more.
        if self._ending.is_set():
            for child in self._children:
                child.signal(signal.SIGKILL)
        self._ending.set()

    async def _keep(self, index: int) -> None:
        child = self._children[index]
        while True:
            why = f"ended with status {await _ended(child)}"
            while child.pid is None:
                delay_s = self._note_death(index)
                say(f"{child.name} {why}; starting it in {delay_s:g} s")
                await asyncio.sleep(delay_s)
                try:
                    child.start()
                except OSError as exc:
                    why = f"could not be started ({exc})"
            if self._published:
                self._publish()

    def _note_death(self, index: int) -> float:
        """Count a death, and return for how long the child stays down; seconds."""
        lived_s = time.monotonic() - self._children[index].started_s
        self._failures[index] = 1 if lived_s >= STEADY_S else self._failures[index] + 1
        return restart_delay_s(lived_s, self._failures[index])

    async def _announce(self) -> None:
        while not await self._is_ready():  # noqa: ASYNC110 other processes
            await asyncio.sleep(_LOOK_S)
        self._publish()
        self._published = True
        if self._on_ready is not None:
            self._on_ready(self._ready())

    async def _is_ready(self) -> bool:
        config = self._config
        endpoint = config.ready.endpoint
        if not endpoint.url:
            return True
        try:
            if not config.leader:
                (await open_probe(endpoint)).close()
                return True
            shard = await describe(endpoint, deadline_s=0.3)
        except BusError:
            return False
        return shard is not None and len(shard.agents) >= config.agents_min

    def _ready(self) -> Ready:
        pids = {child.name: child.pid for child in self._children}
        return msgspec.structs.replace(self._config.ready, pids=Pids(dev=os.getpid(), **pids))

    def _publish(self) -> None:
        if self._config.ready_path:
            content = msgspec.json.format(msgspec.json.encode(self._ready()))
            write_private(Path(self._config.ready_path), content)

    async def _watch_starter(self) -> None:
        closed = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), closed.set)
        try:
            while not closed.is_set() and os.getppid() == self._starter:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        await closed.wait()
        finally:
            loop.remove_reader(sys.stdin.fileno())
        await self._without_users()
        self._ending.set()

    async def _without_users(self) -> None:
        """Wait until nobody uses the cluster; from then on nobody can begin to."""
        if not self._config.users_path:
            return
        # Never closed: whoever comes later must see that the cluster is about to end.
        users = os.open(self._config.users_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                await asyncio.sleep(_LOOK_S)

    async def _reap_orphans(self) -> None:
        """Take the exit status of processes that a dead child left to us."""
        while True:
            await asyncio.sleep(_TICK_S)
            _reap({child.pid for child in self._children})

    async def _end(self) -> None:
        _withdraw(self._config.ready_path)
        for child in reversed(self._children):
            await _stop(child)
        _kill_orphans()
        if self._config.remove_path:
            shutil.rmtree(self._config.remove_path, ignore_errors=True)


async def _ended(child: SupervisedChild) -> int:
    """Return the exit status once the process is over."""
    if child.poll() is None and child.pid is not None and sys.platform == "linux":
        await _pidfd_readable(child.pid)
    while (status := child.poll()) is None:  # noqa: ASYNC110 other processes
        await asyncio.sleep(_LOOK_S)
    return status


async def _stop(child: SupervisedChild) -> None:
    """End it: SIGTERM, and SIGKILL after `stop_s`."""
    if child.poll() is not None:
        return
    child.signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(child.stop_s):
            await _ended(child)
    except TimeoutError:
        say(f"{child.name} did not end within {child.stop_s:g} s and is killed")
        child.signal(signal.SIGKILL)
        await _ended(child)


async def _pidfd_readable(pid: int) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _withdraw(ready_path: str) -> None:
    if ready_path:
        Path(ready_path).unlink(missing_ok=True)


def _reap(own: Collection[int | None]) -> None:
    for pid in _children_of_self():
        if pid not in own:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _kill_orphans() -> None:
    for pid in _children_of_self():
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _children_of_self() -> list[int]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    try:
        return [int(pid) for pid in path.read_text().split()]
    except OSError:  # not Linux: there are no orphans to adopt
        return []


def say(text: str) -> None:
    """Print one line of the supervisor's own log."""
    when = time.strftime("%Y-%m-%dT%H:%M:%S")
    print(f"{when} [supervisor] {text}", file=sys.stderr, flush=True)
