"""The one process that owns a local cluster.

Its children are the nats-server, the scheduler and the agent. It starts them from its main
thread, because a child's death signal (Linux) is tied to the *thread* that forked it; that is
why a program that wants a cluster never starts these itself. A child that dies is started
again. The supervisor ends with its starter (its stdin closes) or by SIGTERM or SIGINT, and then
ends its children in reverse order; when it is killed itself, the kernel kills them.

It runs as a script, `python -P .../_supervisor.py`, not as a module: only the standard library
is imported before the children are started, since the import of the package would delay them
by more than a nats-server takes to start, and would stay in memory. What comes afterwards is in
`_cluster_watch`.
"""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from millstream._cluster_files import Ready
    from millstream._cluster_plan import SupervisorConfig
    from millstream._cluster_watch import OnReady

#: A log file is set aside as `<name>.1` before a start when it is larger.
_LOG_BYTES_MAX: Final = 16 * 1024 * 1024
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_LINUX: Final = sys.platform == "linux"
#: Ends `$0` when the other end of its stdin, which the supervisor holds, is closed.
_GUARD: Final = ("/bin/sh", "-c", 'read -r _ ; kill -9 "$0" 2>/dev/null')


class Child:
    """One supervised process, over all its lives; the arguments are those of `ChildSpec`."""

    def __init__(
        self,
        lock_fd: int | None,
        *,
        name: str,
        argv: Sequence[str],
        log: str,
        env: Mapping[str, str],
        keeps_lock: bool,
        stop_s: float,
    ) -> None:
        self.name = name
        self.stop_s = stop_s
        #: Monotonic time of the last start.
        self.started_s = 0.0
        self._argv = argv
        self._log = Path(log)
        self._env = {**os.environ, **env}
        self._lock_fds = (lock_fd,) if keeps_lock and lock_fd is not None else ()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while it is down."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def start(self) -> None:
        """Start it; from the main thread only."""
        self.started_s = time.monotonic()
        with _open_log(self._log) as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                pass_fds=self._lock_fds,
                start_new_session=True,
                # This process has one thread, so code between fork and exec is safe.
                preexec_fn=_die_with_parent(os.getpid()) if _LINUX else None,  # noqa: PLW1509
            )
        if not _LINUX:
            self._guard = subprocess.Popen([*_GUARD, str(self.pid)], stdin=subprocess.PIPE)

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        status = None if self._process is None else self._process.poll()
        if status is not None and self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        return status

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is there."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


def supervise(
    config: "SupervisorConfig",
    *,
    lock_fd: int | None = None,
    on_ready: "Callable[[Ready], None] | None" = None,
) -> None:
    """Run a cluster until SIGTERM or SIGINT. Blocks; from the main thread only.

    Args:
        config: What to keep alive.
        lock_fd: Descriptor that holds the store's lock, for the children that keep it too.
        on_ready: Called once, when `ready.json` has been written.
    """
    import msgspec

    from millstream._cluster_files import Ready

    def told(ready: Mapping[str, Any]) -> None:
        if on_ready is not None:
            on_ready(msgspec.convert(ready, Ready))

    raw = msgspec.to_builtins(config)
    _watch(_start(raw, lock_fd), raw, watch_stdin=False, on_ready=told)


def _start(raw: Mapping[str, Any], lock_fd: int | None) -> list[Child]:
    """Start what the plain form of a `SupervisorConfig` names, and return it."""
    if _LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if raw["ready_path"]:
        Path(raw["ready_path"]).unlink(missing_ok=True)
    children = [Child(lock_fd, **spec) for spec in raw["children"]]
    for child in children:
        child.start()
    return children


def _watch(
    children: list[Child],
    raw: Mapping[str, Any],
    *,
    watch_stdin: bool,
    on_ready: "OnReady | None",
) -> None:
    from millstream._cluster_watch import Supervisor

    arm = _die_with_parent(os.getpid()) if _LINUX else None
    Supervisor(raw, children, on_ready, arm).run(watch_stdin=watch_stdin)


def _die_with_parent(parent: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # It may have died between fork and the line above.
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")


def main() -> None:
    """Supervise what a configuration file names."""
    parser = argparse.ArgumentParser(prog="_supervisor.py")
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--lock-fd", type=int, default=None)
    parser.add_argument("--watch-stdin", action="store_true")
    options = parser.parse_args()
    raw = json.loads(options.config.read_bytes())
    _watch(_start(raw, options.lock_fd), raw, watch_stdin=options.watch_stdin, on_ready=None)


if __name__ == "__main__":
    main()
