"""The agent's side of its templates: which there are, and what they have forked."""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from millstream_executor.fleet_types import WorkerSpec
from millstream_executor.native import IS_LINUX
from millstream_executor.root_start import StartedRoot, start_root
from millstream_executor.template_link import (
    CONTROL_BYTES_MAX,
    Exited,
    Forked,
    ForkFailed,
    ForkTemplate,
    ForkWorker,
    FromTemplate,
    TemplateReady,
    ToTemplate,
    WorkerStart,
)

#: Longest that the root may take to import what every worker needs.
ROOT_READY_S: Final = 30.0
#: Longest that a bundle may take to be preloaded; then its workers are started by exec.
PRELOAD_S: Final = 60.0
#: Longest that a fork may take.
FORK_S: Final = 10.0
#: Bundle templates kept; the one unused for longest goes when there are more.
TEMPLATES_MAX: Final = 16
#: Root templates kept, of as many interpreters.
ROOTS_MAX: Final = 8
#: After so many roots in a row that ended before they were ready, no further one is started.
ROOT_FAILURES_MAX: Final = 3
_LOOK_EVERY_S: Final = 0.005

_decoder: Final = msgspec.msgpack.Decoder[FromTemplate](FromTemplate)
_encoder: Final = msgspec.msgpack.Encoder()

ExitSink = Callable[["TemplateEnd", Exited], None]
LossSink = Callable[["TemplateEnd"], None]


class TemplateError(Exception):
    """A template cannot be had, or did not fork."""


class TemplateKey(NamedTuple):
    """What a bundle template is made for; workers of one key are forked from the same one."""

    bundle_dir: str
    cwd: str
    env_vars: tuple[tuple[str, str], ...]
    #: Interpreter; empty: the agent's own.
    python: str = ""

    @classmethod
    def of(cls, spec: WorkerSpec) -> "TemplateKey":
        """Return the key of the template that `spec` is forked from."""
        return cls(
            "" if spec.bundle_dir is None else str(spec.bundle_dir),
            "" if spec.cwd is None else str(spec.cwd),
            spec.env_vars,
            spec.python,
        )


class TemplateEnd:
    """The agent's end of one template's control socket."""

    def __init__(self, control: socket.socket, on_exit: ExitSink, on_lost: LossSink) -> None:
        control.setblocking(False)
        self._control = control
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._forks: dict[int, asyncio.Future[int]] = {}
        #: Messages and their descriptors that wait for room in the socket.
        self._outbox: deque[tuple[bytes, Sequence[int]]] = deque()
        self.ready: asyncio.Future[TemplateReady] = self._loop.create_future()
        self.lost = False
        self._loop.add_reader(control.fileno(), self._read)

    async def fork_template(self, key: TemplateKey, control_fd: int) -> int:
        """Fork a bundle template and return its pid. Closes `control_fd`.

        Raises:
            TemplateError: It did not fork.
        """
        request = ForkTemplate(next(self._ids), key.bundle_dir, key.cwd, key.env_vars)
        return await self._fork(request, (control_fd,))

    async def fork_worker(self, start: WorkerStart, fds: Sequence[int]) -> int:
        """Fork a worker and return its pid. Closes `fds`: link, stdout and stderr.

        Raises:
            TemplateError: It did not fork.
        """
        return await self._fork(ForkWorker(next(self._ids), start), fds)

    def close(self) -> None:
        """Let the template end, and all that it forked with it."""
        self._lose()

    async def _fork(self, request: ToTemplate, fds: Sequence[int]) -> int:
        packet = _encoder.encode(request)
        if self.lost or len(packet) > CONTROL_BYTES_MAX:
            _close_all(fds)
            raise TemplateError("the template is gone" if self.lost else "too large to ask for")
        future: asyncio.Future[int] = self._loop.create_future()
        self._forks[request.id] = future
        self._outbox.append((packet, fds))
        if len(self._outbox) == 1:
            self._write()
        try:
            async with asyncio.timeout(FORK_S):
                return await future
        except TimeoutError as exc:
            self.close()
            raise TemplateError(f"no fork within {FORK_S} s") from exc

    def _write(self) -> None:
        while self._outbox and not self.lost:
            packet, fds = self._outbox[0]
            try:
                socket.send_fds(self._control, [packet], fds)
            except BlockingIOError:
                self._loop.add_writer(self._control.fileno(), self._write)
                return
            except OSError:
                self._lose()
                return
            self._outbox.popleft()
            _close_all(fds)
        if not self.lost:
            self._loop.remove_writer(self._control.fileno())

    def _read(self) -> None:
        while not self.lost:
            try:
                packet = self._control.recv(CONTROL_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lose()
                return
            self._take(_decoder.decode(packet))

    def _take(self, message: FromTemplate) -> None:
        match message:
            case TemplateReady():
                if not self.ready.done():
                    self.ready.set_result(message)
            case Forked():
                future = self._forks.pop(message.id, None)
                if future is not None and not future.done():
                    future.set_result(message.pid)
            case ForkFailed():
                future = self._forks.pop(message.id, None)
                if future is not None and not future.done():
                    future.set_exception(TemplateError(message.why))
            case Exited():
                # After the waiter for the fork has run: it is what knows the pid's owner.
                self._loop.call_soon(self._loop.call_soon, self._on_exit, self, message)

    def _lose(self) -> None:
        if self.lost:
            return
        self.lost = True
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_writer(self._control.fileno())
        self._control.close()
        for _, fds in self._outbox:
            _close_all(fds)
        self._outbox.clear()
        for future in self._forks.values():
            if not future.done():
                future.set_exception(TemplateError("the template ended"))
        if not self.ready.done():
            self.ready.set_exception(TemplateError("the template ended while it loaded"))
            self.ready.exception()  # Nobody may be waiting.
        self._on_lost(self)


class _Root:
    """The root template of one interpreter, from the wish for it to its end."""

    def __init__(self, python: str) -> None:
        self.python = python
        self.end: TemplateEnd | None = None
        self.starting: asyncio.Task[TemplateEnd] | None = None
        self.failures = 0
        self.popen: subprocess.Popen[bytes] | None = None

    @property
    def usable(self) -> bool:
        """Whether it is worth while to start it (again)."""
        return self.failures < ROOT_FAILURES_MAX


class Templates:
    """The root templates, one for each interpreter, and those forked from them."""

    def __init__(
        self,
        on_exit: ExitSink,
        on_lost: LossSink,
        log: Callable[[str, str], None],
        mark: str,
        started: StartedRoot | None,
    ) -> None:
        self._on_exit = on_exit
        self._on_lost = on_lost
        #: Told of what went otherwise than hoped: event, text.
        self._log = log
        #: `NAME=text` in the environment of all that is started from here.
        self._mark = mark
        #: The agent's own root, started before there was a loop; None: it has been taken over.
        self._started = started
        #: By interpreter; the agent's own is "".
        self._roots: dict[str, _Root] = {}
        #: In order of use, the least recent first. A result of None: to be started by exec.
        self._bundles: dict[TemplateKey, asyncio.Task[TemplateEnd | None]] = {}
        #: Templates and how many workers of theirs live.
        self.workers: dict[TemplateEnd, int] = {}
        self._reaping: set[asyncio.Task[None]] = set()

    @property
    def root_pid(self) -> int:
        """Pid of the root template of the agent's own interpreter; 0: there is none."""
        root = self._roots.get("")
        return root.popen.pid if root is not None and root.popen is not None else 0

    @property
    def root_pids(self) -> set[int]:
        """Pids of all root templates."""
        return {root.popen.pid for root in self._roots.values() if root.popen is not None}

    async def start(self) -> None:
        """Start the agent's own root, so that the first worker need not wait for it."""
        if IS_LINUX:
            try:
                await self._obtain_root("")
            except TemplateError as exc:
                self._log("template_failed", str(exc))

    async def obtain(self, spec: WorkerSpec) -> TemplateEnd | None:
        """Return the template for `spec`, made if need be; None: start the worker by exec."""
        if not IS_LINUX or not self._root_of(spec.python).usable:
            return None
        if spec.secret_variables or spec.secret_files:
            # Code that reads a secret while it is imported must find it, and a template that
            # many workers come from must not: such a worker loads its code itself.
            try:
                return await self._obtain_root(spec.python)
            except TemplateError as exc:
                self._log("template_failed", str(exc))
                return None
        key = TemplateKey.of(spec)
        making = self._bundles.pop(key, None)
        if making is not None and making.done() and _is_lost(making):
            making = None
        if making is None:
            making = asyncio.create_task(self._make(key))
        self._bundles[key] = making
        self._retire()
        return await asyncio.shield(making)

    async def close(self, deadline_s: float) -> None:
        """End every template."""
        for making in self._bundles.values():
            making.cancel()
            if making.done() and not making.cancelled() and (end := making.result()) is not None:
                end.close()
        self._bundles.clear()
        for root in self._roots.values():
            if root.starting is not None:
                root.starting.cancel()
            if root.end is not None:
                root.end.close()
        for root in self._roots.values():
            if root.popen is not None:
                await _reap(root.popen, deadline_s)
                root.popen = None

    def _root_of(self, python: str) -> _Root:
        root = self._roots.get(python)
        if root is None:
            root = self._roots[python] = _Root(python)
        return root

    async def _obtain_root(self, python: str) -> TemplateEnd:
        root = self._root_of(python)
        if root.end is not None and not root.end.lost:
            return root.end
        if root.starting is None or root.starting.done():
            root.starting = asyncio.create_task(self._start_root(root))
        return await asyncio.shield(root.starting)

    async def _start_root(self, root: _Root) -> TemplateEnd:
        if root.popen is not None:
            await _reap(root.popen, 1.0)
        started = None if root.python else self._started
        self._started = None if started is not None else self._started
        root.popen, ours = started or start_root(root.python, self._mark)
        end = TemplateEnd(ours, self._on_exit, self._on_lost)
        try:
            async with asyncio.timeout(ROOT_READY_S):
                await end.ready
        except (TemplateError, TimeoutError) as exc:
            root.failures += 1
            end.close()
            raise TemplateError(f"the root template did not start: {exc}") from exc
        root.failures = 0
        root.end = end
        self.workers[end] = 0
        return end

    async def _make(self, key: TemplateKey) -> TemplateEnd | None:
        try:
            root = await self._obtain_root(key.python)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            end = TemplateEnd(ours, self._on_exit, self._on_lost)
            self.workers[end] = 0
            try:
                await root.fork_template(key, theirs.detach())
                async with asyncio.timeout(PRELOAD_S):
                    ready = await end.ready
            except BaseException:
                end.close()
                raise
        except (TemplateError, TimeoutError) as exc:
            self._log("template_failed", str(exc) or f"not ready within {PRELOAD_S} s")
            return None
        if ready.failed:
            self._log("preload_failed", ready.failed)
        if ready.unfit:
            self._log("template_unfit", ready.unfit)
            end.close()
            return None
        return end

    def _retire(self) -> None:
        """Let go of templates without workers when there are too many."""
        for key, making in tuple(self._bundles.items())[: len(self._bundles) - TEMPLATES_MAX]:
            if not making.done():
                continue
            end = making.result()
            if end is None or end.lost or not self.workers.get(end, 0):
                del self._bundles[key]
                if end is not None:
                    end.close()
        self._retire_roots()

    def _retire_roots(self) -> None:
        """Let go of other interpreters' roots without workers when there are too many."""
        needed = {"", *(key.python for key in self._bundles)}
        for python, root in tuple(self._roots.items())[: len(self._roots) - ROOTS_MAX]:
            if python in needed or root.end is None or self.workers.get(root.end, 0):
                continue
            del self._roots[python]
            root.end.close()
            if root.popen is not None:
                # Its end is seen to by the kernel: nobody waits for it but the reaper below.
                self._reaping.add(task := asyncio.create_task(_reap(root.popen, 1.0)))
                task.add_done_callback(self._reaping.discard)


def _is_lost(making: asyncio.Task[TemplateEnd | None]) -> bool:
    if making.cancelled() or making.exception() is not None:
        return True
    end = making.result()
    return end is not None and end.lost


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


async def _reap(popen: subprocess.Popen[bytes], deadline_s: float) -> None:
    """Wait for a process that has been asked to end, and kill it when it does not."""
    try:
        async with asyncio.timeout(deadline_s):
            while popen.poll() is None:  # noqa: ASYNC110 - a process sets no event
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        popen.send_signal(signal.SIGKILL)
        popen.wait()
