"""The few system calls that Python's standard library does not offer.

Linux only, and each does nothing elsewhere: macOS has no parent-death signal and no
subreaper, so there a worker notices the end of its agent by the end of the link.
"""

import ctypes
import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import Final

IS_LINUX: Final = sys.platform == "linux"

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_F_SETPIPE_SZ: Final = 1031
_STAT_BYTES_MAX: Final = 4096
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"prctl {option}")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends.

    The order closes the gap between fork and here: a parent that is gone already is seen.

    Args:
        parent: Pid that this process should have as its parent.
    """
    if not IS_LINUX:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    if IS_LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


_c_stdout = ctypes.c_void_p.in_dll(_libc, "stdout" if IS_LINUX else "__stdoutp")


def flush_c_stdout() -> None:
    """Write out what C code in this process has printed through stdio and not flushed."""
    # Not fflush(NULL): that waits for every stream that some thread is reading from.
    _libc.fflush(_c_stdout)


def widen_pipe(fd: int, size_bytes: int) -> None:
    """Ask for a larger pipe; the kernel may refuse, and the pipe works all the same."""
    if IS_LINUX:
        try:
            fcntl.fcntl(fd, _F_SETPIPE_SZ, size_bytes)
        except OSError:
            return


def has_children() -> bool:
    """Say whether this process has any child, ended ones included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def children_of(pid: int) -> list[int]:
    """Return the pids of the direct children of `pid`, zombies included (Linux)."""
    found: list[int] = []
    with os.scandir("/proc") as entries:
        names = [entry.name for entry in entries if entry.name.isdigit()]
    for name in names:
        stat = _stat_fields(int(name))
        if stat is not None and int(stat[1]) == pid:
            found.append(int(name))
    return found


def session_of(pid: int) -> int:
    """Return the session id of `pid`, also of a zombie; 0 when there is no such process."""
    stat = _stat_fields(pid)
    return 0 if stat is None else int(stat[3])


def started_at(pid: int) -> int:
    """Return when `pid` started, in clock ticks since boot; 0 when there is no such process.

    Together with the pid it names a process for good: pids are used again, pairs are not.
    """
    stat = _stat_fields(pid)
    return 0 if stat is None else int(stat[19])


def _stat_fields(pid: int) -> list[bytes] | None:
    """Return the fields of `/proc/PID/stat` from the third (state) on, or None."""
    try:
        # Plain calls: this is read for every process of the machine whenever a worker ends.
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, _STAT_BYTES_MAX)
        finally:
            os.close(fd)
    except OSError:
        return None
    # The second field is the program's name in brackets and may hold anything.
    return text[text.rindex(b")") + 2 :].split()


def resident_bytes(statm_fd: int) -> int:
    """Return the resident size of the process behind an open `/proc/PID/statm`, 1.6 us a call.

    Raises:
        OSError: The process is gone.
    """
    return int(os.pread(statm_fd, 128, 0).split(b" ", 2)[1]) * _PAGE_BYTES


def private_bytes(pid: int) -> int:
    """Return the memory that `pid` has for itself, without what it shares with its template.

    Costs about 1 ms, so it is asked only when `resident_bytes` is over a limit.

    Raises:
        OSError: The process is gone.
    """
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_"):
            total += int(line.split()[1]) * 1024
    return total


def writable_bytes() -> int:
    """Return the address space of this process that counts against RLIMIT_DATA."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def socket_descriptors() -> set[int]:
    """Return the open descriptors of this process that are sockets (Linux)."""
    found: set[int] = set()
    for link in tuple(Path("/proc/self/fd").iterdir()):
        try:
            target = str(link.readlink())
        except OSError:
            continue  # The listing's own descriptor, closed by now.
        if target.startswith("socket:"):
            found.add(int(link.name))
    return found
