"""The process that workers are forked from: an interpreter with everything imported.

Single-threaded and blocking: no event loop, no thread, no logging. A lock that another thread
held at the time of the fork would stay locked in the child for ever (design: tried.md 1).

The agent starts the root template by exec. The root forks one template for each bundle, which
preloads the bundle's modules and forks the workers, all of them flat: forks of forks get slower
with every level.
"""

import gc
import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from millstream_executor import capture, worker
from millstream_executor.loader import TaskLoader, TaskLoadError, enter_bundle
from millstream_executor.native import die_with_parent, socket_descriptors
from millstream_executor.template_link import (
    CONTROL_BYTES_MAX,
    Exited,
    Forked,
    ForkFailed,
    ForkTemplate,
    FromTemplate,
    TemplateReady,
    ToTemplate,
    WorkerStart,
)

#: Descriptors that may come with one message.
_FDS_MAX: Final = 3

_decoder: Final = msgspec.msgpack.Decoder[ToTemplate](ToTemplate)
_encoder: Final = msgspec.msgpack.Encoder()


class Template:
    """Forks children on demand, waits for them and reports how they ended."""

    def __init__(self, control: socket.socket, loader: TaskLoader | None = None) -> None:
        self._control = control
        self._loader = loader
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        #: pidfd -> pid of every child.
        self._children: dict[int, int] = {}

    def serve(self) -> None:
        """Serve until the agent closes the control socket."""
        gc.collect()
        # Without this the first collection in each child would copy every page.
        gc.freeze()
        while True:
            for key, _ in self._selector.select():
                if key.fd in self._children:
                    self._reap(key.fd)
                elif not self._take():
                    return

    def tell(self, message: FromTemplate) -> None:
        """Send one message to the agent; a lost agent is noticed by the next read."""
        try:
            self._control.send(_encoder.encode(message))
        except BrokenPipeError:
            return

    def _take(self) -> bool:
        """Carry out one request; False: the agent is gone."""
        try:
            packet, fds, _, _ = socket.recv_fds(self._control, CONTROL_BYTES_MAX, _FDS_MAX)
        except ConnectionResetError:
            return False
        if not packet:
            return False
        request = _decoder.decode(packet)
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as exc:
            self.tell(ForkFailed(request.id, str(exc)))
        else:
            if pid == 0:
                self._become(request, fds, parent)
            pidfd = os.pidfd_open(pid)
            self._children[pidfd] = pid
            self._selector.register(pidfd, selectors.EVENT_READ)
            self.tell(Forked(request.id, pid))
        for fd in fds:
            os.close(fd)
        return True

    def _become(self, request: ToTemplate, fds: Sequence[int], parent: int) -> NoReturn:
        """Live the life of the child."""
        code = 1
        try:
            die_with_parent(parent)
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            self._selector.close()
            self._control.close()
            for pidfd in self._children:
                os.close(pidfd)
            if isinstance(request, ForkTemplate):
                _serve_bundle(request, socket.socket(fileno=fds[0]))
                code = 0
            else:
                _serve_worker(request.start, self._loader, *fds)
        except BaseException as exc:  # noqa: BLE001 - it must not travel up into the parent's code
            sys.excepthook(type(exc), exc, exc.__traceback__)
        finally:
            os._exit(code)

    def _reap(self, pidfd: int) -> None:
        pid = self._children.pop(pidfd)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        # The child is a zombie still, so its number cannot belong to anybody else yet.
        _kill_group(pid)
        _, status, spent = os.wait4(pid, 0)
        self.tell(Exited(pid, status, spent.ru_maxrss * 1024))


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # Nobody else is in it, or it ended before it had made its group.


def _serve_bundle(request: ForkTemplate, control: socket.socket) -> None:
    """Preload one bundle, say so, and fork workers for it."""
    os.environ.update(request.env_vars)
    before = socket_descriptors()
    bundle_dir = Path(request.bundle_dir) if request.bundle_dir else None
    loader = TaskLoader(bundle_dir)
    template = Template(control, loader)
    failed: TaskLoadError | None = None
    try:
        enter_bundle(bundle_dir, Path(request.cwd) if request.cwd else None)
        failed = loader.preload()
        unfit = _unfit(before)
    except TaskLoadError as exc:
        # A worker of its own will say so to the attempts.
        unfit = str(exc)
    template.tell(TemplateReady(os.getpid(), unfit, "" if failed is None else str(failed)))
    template.serve()


def _unfit(sockets_before: set[int]) -> str:
    """Return why this process must not be forked now; empty: it may be."""
    threads = [thread.name for thread in threading.enumerate()]
    if len(threads) > 1:
        return f"importing the code started threads: {', '.join(threads[1:])}"
    if socket_descriptors() - sockets_before:
        return "importing the code opened a network connection, which workers cannot share"
    return ""


def _serve_worker(
    start: WorkerStart, loader: TaskLoader | None, link_fd: int, out_fd: int, err_fd: int
) -> NoReturn:
    os.dup2(out_fd, 1)
    os.dup2(err_fd, 2)
    os.close(out_fd)
    os.close(err_fd)
    legacy_random = sys.modules.get("numpy.random")
    if legacy_random is not None:
        # numpy's global generator would be the same in every worker; `random` sees to itself.
        legacy_random.seed()
    worker.main(start, socket.socket(fileno=link_fd), loader)


def main() -> None:
    """Be the root template: `python -m millstream_executor.template CONTROL_FD AGENT_PID`."""
    control = socket.socket(fileno=int(sys.argv[1]))
    die_with_parent(int(sys.argv[2]))
    # Results of commands go to stdout, so nothing else may.
    os.dup2(2, 1)
    capture.install()
    template = Template(control)
    template.tell(TemplateReady(os.getpid()))
    template.serve()


if __name__ == "__main__":
    main()
