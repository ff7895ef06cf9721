"""The local cluster of a project directory: start it, or join the one that is there.

Exactly one process tree owns a directory's store, by a lock that its supervisor and its
nats-server hold. Starters that come at once race for the lock; the others wait for
`ready.json` and join. An embedded cluster (not one of `millstream dev`) lives as long as
anybody uses it: every user holds a shared lock, and the supervisor ends when its starter is
gone and that lock is free.
"""

import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

import msgspec

from millstream._cluster_files import (
    Layout,
    Pids,
    Ready,
    layout_of,
    read_ready,
)
from millstream._cluster_plan import SupervisorConfig
from millstream._cluster_private import write_private
from millstream._cluster_probe import open_probe
from millstream._cluster_start import WORKING, ClusterSettings, plan_cluster, take_lock
from millstream_events.endpoint import Endpoint
from millstream_events.errors import BusError, ClusterError, StoreInUseError
from millstream_events.nats_server import StoreLock
from millstream_events.ports import Durability

#: A script, not a module: see there.
SUPERVISOR: Final = Path(__file__).with_name("_supervisor.py")
#: Longest wait for the server of a new cluster, or for that of somebody else's.
START_DEADLINE_S: Final = 15.0
#: Longest wait for the processes of a cluster that was told to end.
STOP_DEADLINE_S: Final = 10.0
#: Between two looks.
_LOOK_S: Final = 0.01
#: Bytes of a log file that an error message shows.
_TAIL_BYTES: Final = 2_000


class ClusterStartError(ClusterError):
    """A part of a new local cluster ended, or did not answer in time."""

    code = "cluster-start"
    hint = "the files in .millstream/log say more"

    def __init__(self, part: str, why: str) -> None:
        super().__init__(part, why)
        self.part = part
        self.why = why

    def __str__(self) -> str:
        return f"{self.part} did not start: {self.why}"


class ClusterHandle:
    """One process's use of a local cluster."""

    def __init__(
        self,
        endpoint: Endpoint,
        layout: Layout,
        *,
        data_dir: Path,
        users_fd: int,
        supervisor: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.data_dir = data_dir
        self._layout = layout
        self._users_fd = users_fd
        self._supervisor = supervisor

    @property
    def owned(self) -> bool:
        """Whether this process started the cluster, which ends with its last user."""
        return self._supervisor is not None

    @property
    def pids(self) -> Pids:
        """The processes, as far as they are known by now."""
        ready = read_ready(self._layout.ready)
        if ready is not None:
            return ready.pids
        return Pids(dev=None if self._supervisor is None else self._supervisor.pid)

    async def close(self) -> None:
        """Let go of the cluster, and wait for its end if nobody else uses it."""
        supervisor, self._supervisor = self._supervisor, None
        if self._users_fd < 0:
            return
        others = supervisor is None or not _lock(self._users_fd, fcntl.LOCK_EX)
        os.close(self._users_fd)
        self._users_fd = -1
        if supervisor is None:
            return
        assert supervisor.stdin is not None
        supervisor.stdin.close()
        if others:
            _left.append(supervisor)
            return
        end_s = time.monotonic() + STOP_DEADLINE_S
        while supervisor.poll() is None and time.monotonic() < end_s:  # noqa: ASYNC110 other processes
            await asyncio.sleep(_LOOK_S)
        if supervisor.poll() is None:
            # It gives its children deadlines of its own, so somebody has just joined.
            _left.append(supervisor)


#: Set for workers: `<pid of their agent>.<fleet>`; see `millstream_executor.fleet`.
_FLEET_VARIABLE: Final = "MILLSTREAM_FLEET"
#: Supervisors that outlive our use of them, kept so that nobody warns of an unfinished child.
_left: Final[list[subprocess.Popen[bytes]]] = []


async def ensure_cluster(
    project_dir: Path,
    *,
    slots: int | None = None,
    workers: int | None = None,
    durability: Durability = "interval",
    ephemeral: bool = False,
    need: Collection[str] = WORKING,
    env: Mapping[str, str] | None = None,
    deadline_s: float = START_DEADLINE_S,
) -> ClusterHandle:
    """Join the cluster of `project_dir`, or start one that lives as long as it is used.

    Returns as soon as the server answers: the scheduler and the agent may still be on their
    way, and clients repeat what is unanswered.

    Args:
        project_dir: Directory that holds, or gets, `.millstream/`.
        slots: Actions at once; None: one for each CPU. Of no effect when joining.
        workers: Warm workers; None: as the agent thinks fit.
        durability: `process`, `interval` or `disk`.
        ephemeral: Nothing is kept afterwards.
        env: Variables for the processes of a new cluster. Of no effect when joining.
        need: Parts that must run; with none, a server for reading the log is enough.
        deadline_s: Longest wait for the server.

    Raises:
        ClusterStartError: A new cluster's server did not answer in time.
        StoreInUseError: Somebody owns the directory and cannot be reached.
        ConfigError: A setting that cannot be used.
    """
    settings = ClusterSettings(
        slots=slots or 0, workers=workers or 0, durability=durability, ephemeral=ephemeral
    )
    layout = layout_of(project_dir, ephemeral=ephemeral)
    end_s = time.monotonic() + deadline_s
    while True:
        handle = await _join(layout)
        if handle is not None:
            return handle
        lock = take_lock(layout)
        if lock is not None:
            return await _own(layout, settings, need, env, lock, end_s)
        if time.monotonic() > end_s:
            raise StoreInUseError(str(layout.state), _owner(layout))
        await asyncio.sleep(_LOOK_S)


async def find_cluster(project_dir: Path) -> Ready | None:
    """Return the cluster that runs in `project_dir` and answers, or None."""
    ready = read_ready(layout_of(project_dir).ready)
    if ready is None:
        return None
    try:
        (await open_probe(ready.endpoint)).close()
    except BusError:
        return None
    return ready


def start_detached(project_dir: Path, settings: ClusterSettings) -> subprocess.Popen[bytes]:
    """Start the supervisor of a cluster that stays when this process ends.

    Raises:
        StoreInUseError: A cluster runs in this directory.
    """
    layout = layout_of(project_dir, ephemeral=settings.ephemeral)
    lock = StoreLock(layout.state)
    try:
        config = plan_cluster(layout, settings, has_users=False)
        return _start_supervisor(layout, config, lock, watched=False)
    finally:
        lock.release()


async def wait_ready(
    project_dir: Path, supervisor: subprocess.Popen[bytes], *, deadline_s: float = START_DEADLINE_S
) -> Ready:
    """Return what `ready.json` says once a new cluster takes work.

    Raises:
        ClusterStartError: It did not within `deadline_s`.
    """
    layout = layout_of(project_dir)
    end_s = time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        ready = read_ready(layout.ready)
        if ready is not None and ready.pids.dev == supervisor.pid:
            return ready
        if supervisor.poll() is not None:
            break
        await asyncio.sleep(_LOOK_S)
    raise ClusterStartError("the cluster", _why(layout))


async def _join(layout: Layout) -> ClusterHandle | None:
    ready = read_ready(layout.ready)
    if ready is None:
        return None
    users_fd = _open_users(layout)
    try:
        # Refused when the supervisor has decided to end: then there is nothing to join.
        if _lock(users_fd, fcntl.LOCK_SH):
            (await open_probe(ready.endpoint)).close()
            if _works_for(ready):
                # A task that asks its own cluster for something must not keep it alive: a
                # worker lives as long as the cluster does.
                return ClusterHandle(
                    ready.endpoint, layout, data_dir=Path(ready.data_dir), users_fd=-1
                )
            handle = ClusterHandle(
                ready.endpoint, layout, data_dir=Path(ready.data_dir), users_fd=users_fd
            )
            users_fd = -1
            return handle
    except BusError:
        return None
    finally:
        if users_fd >= 0:
            os.close(users_fd)
    return None


def _works_for(ready: Ready) -> bool:
    """Say whether this process is a worker of that cluster's agent."""
    agent, _, _ = os.environ.get(_FLEET_VARIABLE, "").partition(".")
    return ready.pids.agent is not None and agent == str(ready.pids.agent)


async def _own(
    layout: Layout,
    settings: ClusterSettings,
    need: Collection[str],
    env: Mapping[str, str] | None,
    lock: StoreLock,
    end_s: float,
) -> ClusterHandle:
    users_fd = _open_users(layout)
    try:
        layout.ready.unlink(missing_ok=True)
        # Nobody else holds it for long: who joins lets go again when there is no cluster.
        while not _lock(users_fd, fcntl.LOCK_SH):  # noqa: ASYNC110 other processes
            await asyncio.sleep(_LOOK_S)
        config = plan_cluster(layout, settings, need=need, has_users=True, shown=bool(need))
        supervisor = _start_supervisor(layout, config, lock, watched=True, env=env)
        # The caller needs it next, and the server is not there yet anyway.
        import_module("millstream_events.connect")
    except BaseException:
        os.close(users_fd)
        raise
    finally:
        # The supervisor holds it from here on.
        lock.release()
    handle = ClusterHandle(
        config.ready.endpoint,
        layout,
        data_dir=layout.data,
        users_fd=users_fd,
        supervisor=supervisor,
    )
    try:
        await _answers(layout, config.ready.endpoint, supervisor, end_s)
    except BaseException:
        await handle.close()
        raise
    return handle


async def _answers(
    layout: Layout, endpoint: Endpoint, supervisor: subprocess.Popen[bytes], end_s: float
) -> None:
    while True:
        try:
            (await open_probe(endpoint)).close()
        except BusError as exc:
            if supervisor.poll() is not None or time.monotonic() > end_s:
                raise ClusterStartError("nats-server", _why(layout)) from exc
            await asyncio.sleep(_LOOK_S)
        else:
            return


def _start_supervisor(
    layout: Layout,
    config: SupervisorConfig,
    lock: StoreLock,
    *,
    watched: bool,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    path = layout.run / "supervisor.json"
    write_private(path, msgspec.json.encode(config))
    argv = [sys.executable, "-P", str(SUPERVISOR), "--config", str(path)]
    argv += ["--lock-fd", str(lock.descriptor)]
    if watched:
        argv.append("--watch-stdin")
    with (layout.log / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if watched else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock.descriptor,),
            env={**os.environ, **env} if env else None,
            # Its own session: Ctrl-C in our terminal is ours, and we end it in order.
            start_new_session=True,
        )


def _open_users(layout: Layout) -> int:
    return os.open(layout.users, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(layout: Layout) -> str:
    ready = read_ready(layout.ready)
    return "another process" if ready is None else f"process {ready.pids.dev}"


def _why(layout: Layout) -> str:
    """Return the end of what the supervisor and the server printed."""
    for name in ("nats", "supervisor"):
        with contextlib.suppress(OSError):
            tail = (layout.log / f"{name}.log").read_bytes()[-_TAIL_BYTES:]
            if tail.strip():
                return f"the end of {name}.log:\n{tail.decode(errors='replace').strip()}"
    return "no answer"
