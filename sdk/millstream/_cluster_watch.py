"""The supervisor's loop: restarts, readiness, and the orderly end of a local cluster.

Of the standard library alone, without an event loop, and asleep until a signal or the end of
the starter wakes it: a supervisor lives as long as its cluster and has nothing to do. What takes
more than that, to see whether the cluster is ready, a process of its own does and ends.
"""

import contextlib
import fcntl
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from millstream._cluster_private import write_private

#: A child that lived for this long and died is started again at once.
STEADY_S: Final = 5.0
#: Wait before the second start in a row, doubling to the longest.
RESTART_FIRST_S: Final = 0.1
RESTART_MAX_S: Final = 0.8
#: Between two looks at the users of a cluster that is to end.
_LOOK_S: Final = 0.02
#: Between two looks at the starter, on a system without pidfds.
_TICK_S: Final = 0.5
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)

#: Called with what `ready.json` says, in plain form.
OnReady = Callable[[Mapping[str, Any]], None]


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
        raw: Mapping[str, Any],
        children: Sequence[SupervisedChild],
        on_ready: OnReady | None,
        arm: Callable[[], None] | None,
    ) -> None:
        """Make it; in the main thread, as everything here.

        Args:
            raw: A `SupervisorConfig` in plain form.
            children: Its children, which have been started.
            on_ready: Called once, when `ready.json` has been written.
            arm: What a process forked from this one calls to be ended with it.
        """
        self._raw = raw
        self._children = children
        self._on_ready = on_ready
        self._arm = arm
        self._starter = os.getppid()
        self._selector = selectors.DefaultSelector()
        #: How often we were told to end.
        self._told = 0
        #: Whether we end with our starter, whether it must be looked for, whether it was seen
        #: to be gone.
        self._follows = self._polls = self._left = False
        #: The process that waits until the cluster is ready; 0: there is none.
        self._probe = 0
        #: When the next one is to begin, since the last one failed; None: none is.
        self._probe_due_s: float | None = None
        self._published = False
        self._users = -1
        #: Deaths in a row of each child before it had been up for `STEADY_S`.
        self._failures = [0] * len(children)
        #: When each child is started again; None: it runs.
        self._due_s: list[float | None] = [None] * len(children)

    def run(self, *, watch_stdin: bool) -> None:
        """Supervise until SIGTERM, SIGINT or the end of the starter, then end everything."""
        woken, wakes = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wakes, False)
        self._selector.register(woken, selectors.EVENT_READ, woken)
        before = {number: signal.signal(number, self._heard) for number in _SIGNALS}
        former = signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        try:
            if watch_stdin:
                self._follow_starter()
            self._watch()
            self._end()
        finally:
            signal.set_wakeup_fd(former)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(woken)
            os.close(wakes)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self._told += number != signal.SIGCHLD

    def _pause(self, until_s: float | None) -> None:
        """Sleep until something happens, or until that monotonic time."""
        left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
        if self._polls:
            left_s = _TICK_S if left_s is None else min(left_s, _TICK_S)
        for key, _ in self._selector.select(left_s):
            if key.data is None:
                self._left = True
                self._selector.unregister(key.fd)
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(key.data, 4096)
        if self._told > 1:  # Somebody is impatient, so nobody is waited for any more.
            for child in self._children:
                child.signal(signal.SIGKILL)

    # -------------------------------------------------------------- while it lives

    def _watch(self) -> None:
        self._begin_probe()
        while not self._told:
            due_s = self._revive()
            self._hear_probe()
            if self._probe_due_s is not None:
                due_s = self._probe_due_s if due_s is None else min(due_s, self._probe_due_s)
            _reap({child.pid for child in self._children} | {self._probe})
            if self._left or (self._follows and os.getppid() != self._starter):
                if self._is_unused():
                    return
                due_s = time.monotonic() + _LOOK_S
            self._pause(due_s)

    def _revive(self) -> float | None:
        """Start what has died and is due; return when the next one is."""
        changed = False
        for index, child in enumerate(self._children):
            due_s = self._due_s[index]
            if due_s is None:
                status = child.poll()
                if status is None:
                    continue
                due_s = self._note_death(index, f"ended with status {status}")
            if due_s > time.monotonic():
                continue
            try:
                child.start()
            except OSError as exc:
                self._note_death(index, f"could not be started ({exc})")
            else:
                self._due_s[index] = None
                changed = True
        if changed and self._published:
            self._publish()
        return min((due_s for due_s in self._due_s if due_s is not None), default=None)

    def _note_death(self, index: int, why: str) -> float:
        """Count a death, and return when the child is started again."""
        child = self._children[index]
        now_s = time.monotonic()
        lived_s = now_s - child.started_s
        self._failures[index] = 1 if lived_s >= STEADY_S else self._failures[index] + 1
        delay_s = restart_delay_s(lived_s, self._failures[index])
        say(f"{child.name} {why}; starting it in {delay_s:g} s")
        self._due_s[index] = due_s = now_s + delay_s
        return due_s

    def _publish(self) -> Mapping[str, Any]:
        ready = self._raw["ready"]
        pids = {child.name: child.pid for child in self._children}
        ready = {**ready, "pids": {**ready["pids"], "dev": os.getpid(), **pids}}
        if self._raw["ready_path"]:
            content = json.dumps(ready, indent=2)
            write_private(Path(self._raw["ready_path"]), content.encode())
        return ready

    # -------------------------------------------------------------- readiness

    def _begin_probe(self) -> None:
        if not self._raw["ready"]["endpoint"]["url"]:
            self._announce()
            return
        self._probe = os.fork()
        if self._probe == 0:
            code = 1
            try:
                if self._arm is not None:
                    self._arm()
                signal.set_wakeup_fd(-1)
                for number in _SIGNALS:
                    signal.signal(number, signal.SIG_DFL)
                from millstream._cluster_probe import wait_until_ready

                wait_until_ready(self._raw)
                code = 0
            except BaseException:  # noqa: BLE001 - it must not travel up into the supervisor
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)

    def _hear_probe(self) -> None:
        if self._probe_due_s is not None and time.monotonic() >= self._probe_due_s:
            self._probe_due_s = None
            self._begin_probe()
        if not self._probe:
            return
        pid, status = os.waitpid(self._probe, os.WNOHANG)
        if not pid:
            return
        self._probe = 0
        if status:
            say(f"the look for readiness ended with status {status}; looking again")
            self._probe_due_s = time.monotonic() + RESTART_MAX_S
        else:
            self._announce()

    def _announce(self) -> None:
        ready = self._publish()
        self._published = True
        if self._on_ready is not None:
            self._on_ready(ready)

    # -------------------------------------------------------------- the end

    def _follow_starter(self) -> None:
        self._follows = True
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        try:
            self._selector.register(os.pidfd_open(self._starter), selectors.EVENT_READ)
        except (AttributeError, OSError):  # Not Linux, or not a process that we can see.
            self._polls = True

    def _is_unused(self) -> bool:
        """Say whether nobody uses the cluster; from then on nobody can begin to."""
        if not self._raw["users_path"]:
            return True
        if self._users < 0:
            # Never closed: whoever comes later must see that the cluster is about to end.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._users = os.open(self._raw["users_path"], flags, 0o600)
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _end(self) -> None:
        if self._raw["ready_path"]:
            Path(self._raw["ready_path"]).unlink(missing_ok=True)
        for child in reversed(self._children):
            self._stop(child)
        if self._probe:
            _kill(self._probe)
        for pid in _children_of_self():
            _kill(pid)
        if self._raw["remove_path"]:
            import shutil

            shutil.rmtree(self._raw["remove_path"], ignore_errors=True)

    def _stop(self, child: SupervisedChild) -> None:
        """End it: SIGTERM, and SIGKILL after `stop_s`."""
        if child.poll() is not None:
            return
        child.signal(signal.SIGTERM)
        end_s: float | None = time.monotonic() + child.stop_s
        while child.poll() is None:
            if end_s is not None and time.monotonic() >= end_s:
                say(f"{child.name} did not end within {child.stop_s:g} s and is killed")
                child.signal(signal.SIGKILL)
                end_s = None
            self._pause(end_s)


def restart_delay_s(lived_s: float, failures: int) -> float:
    """Return how long a child that died stays down.

    Args:
        lived_s: How long it had been up.
        failures: How often in a row, this time included, it died before `STEADY_S`.
    """
    if lived_s >= STEADY_S or failures <= 1:
        return 0.0
    return float(min(RESTART_MAX_S, RESTART_FIRST_S * 2 ** min(failures - 2, 10)))


def _reap(own: Collection[int | None]) -> None:
    """Take the exit status of processes that a dead child left to us."""
    for pid in _children_of_self():
        if pid not in own:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _kill(pid: int) -> None:
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
