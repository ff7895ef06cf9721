"""The one process that owns a local cluster: `python -m millstream._supervisor`.

Its children are the nats-server, the scheduler and the agent. It starts them from its main
thread, because a child's death signal (Linux) is tied to the *thread* that forked it; that is
why a program that wants a cluster never starts these itself. A child that dies is started
again. The supervisor ends with its starter (its stdin closes) or by SIGTERM or SIGINT, and then
ends its children in reverse order; when it is killed itself, the kernel kills them.
"""

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import msgspec

from millstream._cluster_files import Pids, Ready, write_private
from millstream._cluster_plan import STEADY_S, ChildSpec, SupervisorConfig, restart_delay_s
from millstream._cluster_probe import describe, open_probe
from millstream_events.errors import BusError

#: Between two looks at a cluster that is not ready yet, at the users of one that is to end,
#: and at children on a system without pidfds.
_LOOK_S: Final = 0.02
#: Between two looks at the starter and at adopted orphans.
_TICK_S: Final = 0.5
#: A log file is set aside as `<name>.1` before a start when it is larger.
_LOG_BYTES_MAX: Final = 16 * 1024 * 1024
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_LINUX: Final = sys.platform == "linux"
#: Ends `$1` when the other end of its stdin, which the supervisor holds, is closed.
_GUARD: Final = ("/bin/sh", "-c", 'read -r _ ; kill -9 "$0" 2>/dev/null')

OnReady = Callable[[Ready], None]


class Child:
    """One supervised process, over all its lives."""

    def __init__(self, spec: ChildSpec, lock_fd: int | None) -> None:
        self.spec = spec
        self._lock_fd = lock_fd
        self._failures = 0
        self._started_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while it is down."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def start(self) -> None:
        """Start it; from the main thread only."""
        lock_fds = (self._lock_fd,) if self.spec.keeps_lock and self._lock_fd is not None else ()
        self._started_s = time.monotonic()
        with _open_log(Path(self.spec.log)) as log:
            # Single-threaded up to here and for ever, so code between fork and exec is safe.
            self._process = subprocess.Popen(  # noqa: PLW1509
                self.spec.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.spec.env},
                pass_fds=lock_fds,
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()) if _LINUX else None,
            )
        if not _LINUX:
            self._guard = subprocess.Popen([*_GUARD, str(self.pid)], stdin=subprocess.PIPE)

    async def ended(self) -> int:
        """Return the exit status once the process is over."""
        process = self._process
        assert process is not None, self.spec.name
        if process.poll() is None and _LINUX:
            await _pidfd_readable(process.pid)
        while process.poll() is None:
            await asyncio.sleep(_LOOK_S)
        self._drop_guard()
        return process.returncode

    def note_end(self) -> float:
        """Count the death just seen, and return for how long the child stays down; seconds."""
        lived_s = time.monotonic() - self._started_s
        self._failures = 1 if lived_s >= STEADY_S else self._failures + 1
        return restart_delay_s(lived_s, self._failures)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is there."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after `stop_s`."""
        if self.pid is None:
            self._drop_guard()
            return
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.spec.stop_s):
                await self.ended()
        except TimeoutError:
            _say(f"{self.spec.name} did not end within {self.spec.stop_s:g} s and is killed")
            self.signal(signal.SIGKILL)
            await self.ended()

    def _drop_guard(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None


class Supervisor:
    """Keeps the children of one local cluster alive until it is told to end."""

    def __init__(
        self, config: SupervisorConfig, children: list[Child], on_ready: OnReady | None
    ) -> None:
        self._config = config
        self._children = children
        self._on_ready = on_ready
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._published = False
        self._starter = os.getppid()

    async def run(self, *, watch_stdin: bool) -> None:
        """Supervise until SIGTERM, SIGINT or the end of the starter, then end everything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_end)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._keep(child)) for child in self._children]
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
            self._hurry.set()
            for child in self._children:
                child.signal(signal.SIGKILL)
        self._ending.set()

    async def _keep(self, child: Child) -> None:
        while True:
            why = f"ended with status {await child.ended()}"
            while child.pid is None:
                delay_s = child.note_end()
                _say(f"{child.spec.name} {why}; starting it in {delay_s:g} s")
                await asyncio.sleep(delay_s)
                try:
                    child.start()
                except OSError as exc:
                    why = f"could not be started ({exc})"
            if self._published:
                self._publish()

    async def _announce(self) -> None:
        while not await self._is_ready():
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
        pids = {child.spec.name: child.pid for child in self._children}
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
            own = {child.pid for child in self._children}
            for pid in _children_of_self():
                if pid not in own:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)

    async def _end(self) -> None:
        if self._config.ready_path:
            Path(self._config.ready_path).unlink(missing_ok=True)
        for child in reversed(self._children):
            await child.stop()
        for pid in _children_of_self():
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        if self._config.remove_path:
            shutil.rmtree(self._config.remove_path, ignore_errors=True)


def supervise(
    config: SupervisorConfig,
    *,
    lock_fd: int | None = None,
    watch_stdin: bool = False,
    on_ready: OnReady | None = None,
) -> None:
    """Run a cluster until it is told to end. Blocks; from the main thread only.

    Args:
        config: What to keep alive.
        lock_fd: Descriptor that holds the store's lock, for the children that keep it too.
        watch_stdin: End when stdin is closed and nobody uses the cluster any more.
        on_ready: Called once, when `ready.json` has been written.
    """
    if _LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if config.ready_path:
        Path(config.ready_path).unlink(missing_ok=True)
    # The children start before this process imports its own event loop: they take longest.
    children = [Child(spec, lock_fd) for spec in config.children]
    for child in children:
        child.start()
    import uvloop

    async def body() -> None:
        await Supervisor(config, children, on_ready).run(watch_stdin=watch_stdin)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())


def _die_with_parent(parent: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # It may have died between fork and the line above.
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


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


def _children_of_self() -> list[int]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    try:
        return [int(pid) for pid in path.read_text().split()]
    except OSError:  # not Linux: there are no orphans to adopt
        return []


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")


def _say(text: str) -> None:
    when = time.strftime("%Y-%m-%dT%H:%M:%S")
    print(f"{when} [supervisor] {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Supervise what a configuration file names."""
    parser = argparse.ArgumentParser(prog="python -m millstream._supervisor")
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--lock-fd", type=int, default=None)
    parser.add_argument("--watch-stdin", action="store_true")
    options = parser.parse_args()
    config = msgspec.json.decode(options.config.read_bytes(), type=SupervisorConfig)
    supervise(config, lock_fd=options.lock_fd, watch_stdin=options.watch_stdin)


if __name__ == "__main__":
    main()
