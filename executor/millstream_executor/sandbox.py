"""Memory limits of workers, and how it is known that one was met.

A memory group (cgroup v2, else v1) holds one worker: the kernel kills exactly what grows, and
the group's counter says that it did. Where groups cannot be made, a watchdog in the agent looks
at the worker's size every 50 ms. Either way `OOMError` is a fact, never a guess from SIGKILL.

RLIMIT_AS is of no use: thread stacks and malloc arenas count (design: tried.md 4).
"""

import asyncio
import contextlib
import os
import resource
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from millstream_executor.native import (
    IS_LINUX,
    private_bytes,
    resident_bytes,
    started_at,
    writable_bytes,
)

WATCH_EVERY_S: Final = 0.05

_CGROUPS: Final = Path("/sys/fs/cgroup")
_PREFIX: Final = "millstream."


class MemoryGroup:
    """The memory group of one worker."""

    def __init__(self, path: Path, *, unified: bool, limit_bytes: int) -> None:
        self._path = path
        self._unified = unified
        self.limit_bytes = limit_bytes

    @property
    def join_file(self) -> str:
        """File to which a process writes `0` to join."""
        return str(self._path / "cgroup.procs")

    def killed_by_kernel(self) -> bool:
        """Say whether the kernel killed a member for the limit."""
        name = "memory.events" if self._unified else "memory.oom_control"
        return _counter(self._path / name, "oom_kill") > 0

    def peak_bytes(self) -> int:
        """Return the most that the group ever used; 0: not known."""
        name = "memory.peak" if self._unified else "memory.max_usage_in_bytes"
        try:
            return int((self._path / name).read_text())
        except (OSError, ValueError):
            return 0  # memory.peak is there from Linux 5.19 on.

    def members(self) -> list[int]:
        """Return the pids in the group."""
        try:
            return [int(line) for line in (self._path / "cgroup.procs").read_text().split()]
        except OSError:
            return []

    def remove(self) -> bool:
        """Remove the group; False while somebody is in it."""
        try:
            self._path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


class MemoryGroups:
    """Makes memory groups below one folder that names this agent."""

    def __init__(self, folder: Path, *, unified: bool) -> None:
        self._folder = folder
        self._unified = unified

    @classmethod
    def open(cls) -> "MemoryGroups | None":
        """Return the groups of this process, or None where it may make none.

        Sweeps what agents that are gone have left behind.
        """
        if not IS_LINUX:
            return None
        for parent, unified in _writable_parents():
            _sweep(parent)
            pid = os.getpid()
            name = f"{_PREFIX}{pid}.{started_at(pid)}.{secrets.token_hex(2)}"
            groups = cls(parent / name, unified=unified)
            try:
                groups._make()
                groups.create("probe", 64 * 1024 * 1024).remove()
            except OSError:
                groups.close()
                continue
            return groups
        return None

    def create(self, name: str, limit_bytes: int) -> MemoryGroup:
        """Make a group with a limit.

        Raises:
            OSError: The kernel refuses.
        """
        path = self._folder / name
        path.mkdir()
        try:
            if self._unified:
                (path / "memory.max").write_text(str(limit_bytes))
                _write_if_there(path / "memory.swap.max", "0")
                (path / "memory.oom.group").write_text("1")
            else:
                (path / "memory.limit_in_bytes").write_text(str(limit_bytes))
                _write_if_there(path / "memory.memsw.limit_in_bytes", str(limit_bytes))
        except OSError:
            path.rmdir()
            raise
        return MemoryGroup(path, unified=self._unified, limit_bytes=limit_bytes)

    def close(self) -> None:
        """Remove the folder and every empty group in it."""
        _remove_tree(self._folder)

    def _make(self) -> None:
        self._folder.mkdir()
        if self._unified:
            (self._folder / "cgroup.subtree_control").write_text("+memory")


class Watchdog:
    """Kills workers that are over their limit, where there is no memory group."""

    def __init__(self, on_over: Callable[[int, int], None]) -> None:
        #: Called with pid and size; records the reason, then kills.
        self._on_over = on_over
        #: pid -> descriptor of its statm, limit.
        self._watched: dict[int, tuple[int, int]] = {}
        self._peaks: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, pid: int, limit_bytes: int) -> None:
        """Watch `pid` until `forget`."""
        try:
            fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # Gone already, or no /proc here: RLIMIT_DATA is all there is.
        self._watched[pid] = (fd, limit_bytes)
        if self._timer is None:
            self._plan()

    def forget(self, pid: int) -> int:
        """Stop watching `pid` and return the largest size seen; 0: never seen."""
        watched = self._watched.pop(pid, None)
        if watched is not None:
            os.close(watched[0])
        return self._peaks.pop(pid, 0)

    def close(self) -> None:
        """Stop watching altogether."""
        for pid in tuple(self._watched):
            self.forget(pid)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WATCH_EVERY_S, self._look)

    def _look(self) -> None:
        for pid, (fd, limit_bytes) in tuple(self._watched.items()):
            try:
                size = resident_bytes(fd)
                if size > limit_bytes:
                    # Most of it may be shared with the template, and is not the task's.
                    size = private_bytes(pid)
            except OSError:
                continue  # It ended; whoever waits for it calls `forget`.
            self._peaks[pid] = max(size, self._peaks.get(pid, 0))
            if size > limit_bytes:
                self._on_over(pid, size)
        if self._watched:
            self._plan()
        else:
            self._timer = None


def join_group(group_file: str) -> None:
    """Put this process into a memory group.

    Raises:
        OSError: The group is gone.
    """
    Path(group_file).write_text("0")


def limit_allocations(limit_bytes: int) -> None:
    """Let allocations fail at 20 % over the limit, beyond what the template has mapped.

    A net below the watchdog: one large allocation can be faster than its 50 ms.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = writable_bytes() + limit_bytes * 6 // 5
    if hard == resource.RLIM_INFINITY or wanted < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _writable_parents() -> list[tuple[Path, bool]]:
    """Return the folders of our own memory groups that might take children; v2 first."""
    parents: list[tuple[Path, bool]] = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return parents
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            for root in (_CGROUPS, _CGROUPS / "unified"):
                folder = root / path.lstrip("/")
                if "memory" in _words(folder / "cgroup.subtree_control"):
                    parents.insert(0, (folder, True))
        elif "memory" in controllers.split(","):
            folder = _CGROUPS / "memory" / path.lstrip("/")
            parents.append((folder if folder.is_dir() else _CGROUPS / "memory", False))
    return parents


def _sweep(parent: Path) -> None:
    """Remove the groups of agents that are gone; their workers died with them."""
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{_PREFIX}*"):
            pid, ticks = [*folder.name.removeprefix(_PREFIX).split("."), "", ""][:2]
            if pid.isdigit() and str(started_at(int(pid))) != ticks:
                _remove_tree(folder)


def _remove_tree(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Somebody is in it still: the next agent sweeps it.
        for child in folder.iterdir():
            if child.is_dir():
                child.rmdir()
        folder.rmdir()


def _counter(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        key, _, number = line.partition(" ")
        if key == name:
            return int(number)
    return 0


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _write_if_there(path: Path, text: str) -> None:
    if path.exists():
        path.write_text(text)
