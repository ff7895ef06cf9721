"""The worker processes of an agent: starting, speaking to, limiting and ending them.

Workers are forked from a template of their bundle in a few milliseconds, or started by exec
where that is not safe. What a worker says comes back in order, then its exit, once; after that
nothing of it is left, neither descendants nor memory group nor descriptors.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Final

import msgspec

from millstream_events.logs import get_logger
from millstream_executor.fleet_orphans import Orphans
from millstream_executor.fleet_output import NativeOutput
from millstream_executor.fleet_secrets import WorkerSecrets
from millstream_executor.fleet_templates import TemplateEnd, TemplateError, Templates
from millstream_executor.fleet_types import WorkerExit, WorkerSpec
from millstream_executor.link import AttemptEnded, FromWorker, Printed, RunAttempt, ToWorker
from millstream_executor.native import IS_LINUX, adopt_orphans
from millstream_executor.root_start import StartedRoot, new_mark
from millstream_executor.sandbox import MemoryGroup, MemoryGroups, Watchdog
from millstream_executor.template_link import EXIT_WITH_CHILDREN, Exited, WorkerStart
from millstream_executor.worker_link import LinkEnd, frame_of

#: Longest that is waited for the last words of a worker that has ended.
LAST_WORDS_S: Final = 0.5
#: Longest that `close` waits for workers, and then for templates.
CLOSE_S: Final = 5.0
#: Between two looks at a child whose parent was a template that died.
_ADOPTED_EVERY_S: Final = 0.005
_ADOPTED_S: Final = 2.0

_decoder: Final = msgspec.msgpack.Decoder[tuple[FromWorker, ...]](tuple[FromWorker, ...])
_log = get_logger("agent")

MessageSink = Callable[[str, Sequence[FromWorker]], None]
ExitSink = Callable[[str, WorkerExit], None]


class _Worker:
    """One worker process, from the wish for it to its exit."""

    def __init__(self, key: str, spec: WorkerSpec, on_messages: MessageSink) -> None:
        self.key = key
        self.spec = spec
        self._on_messages = on_messages
        #: 0: not started yet.
        self.pid = 0
        self.template: TemplateEnd | None = None
        self.group: MemoryGroup | None = None
        #: Why we killed it; empty: we did not. Written before the kill.
        self.why = ""
        #: Size at which the watchdog killed it; 0: it did not.
        self.over_bytes = 0
        self.rss_max_bytes = 0
        self.ended = False
        #: Token -> attempt number of what runs in it.
        self.live: dict[bytes, int] = {}
        self.output = NativeOutput(self._post, self.live)
        self.secrets = WorkerSecrets.of(spec)
        self.link = LinkEnd[FromWorker, ToWorker](_decoder, self._on_batch, self._on_lost)
        self.silent = asyncio.Event()

    def to_be_ended(self) -> bool:
        return bool(self.why)

    def send(self, messages: Sequence[ToWorker]) -> None:
        for message in messages:
            if isinstance(message, RunAttempt):
                self.live[message.work.token] = message.work.attempt
        self.link.send(messages)
        self.link.flush()  # The agent speaks once a turn: there is nothing to gather.

    def _post(self, printed: Printed) -> None:
        self._on_messages(self.key, self.secrets.masked((printed,)))

    def _on_batch(self, batch: tuple[FromWorker, ...]) -> None:
        over = [message.token for message in batch if isinstance(message, AttemptEnded)]
        if over:
            # What was printed before the end comes before the end.
            self.output.drain(finish=len(self.live) == 1)
        self._on_messages(self.key, self.secrets.masked(batch))
        for token in over:
            self.live.pop(token, None)

    def _on_lost(self, exc: Exception | None) -> None:
        self.silent.set()


class Fleet:
    """All worker processes of one agent. On the agent's loop, in its main thread."""

    def __init__(
        self,
        on_messages: MessageSink,
        on_exit: ExitSink,
        cache_dir: Path,
        *,
        fork: bool = True,
        mark: str = "",
        root: StartedRoot | None = None,
    ) -> None:
        """Make it.

        Args:
            on_messages: Told what a worker said, in order.
            on_exit: Told once that a worker ended, after its last message.
            cache_dir: Root of the node's cache.
            fork: False: start every worker by exec.
            mark: By `new_mark`; empty: a new one.
            root: The root template, if it has been started already, with this `mark`.
        """
        self._on_messages = on_messages
        self._on_exit = on_exit
        self._cache_dir = cache_dir
        self._fork = fork
        self._workers: dict[str, _Worker] = {}
        self._mark = mark or new_mark()
        self._templates = Templates(
            self._on_template_exit, self._on_template_lost, self._warn, self._mark, root
        )
        self._orphans = Orphans(self._mark, self._known_pids)
        self._groups: MemoryGroups | None = None
        self._watchdog = Watchdog(self._on_over)
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = 0
        self._none_left = asyncio.Event()
        self._none_left.set()
        self._closing = False

    @property
    def pids(self) -> dict[str, int]:
        """Pids of the workers that run, by key."""
        return {key: worker.pid for key, worker in self._workers.items() if worker.pid}

    @property
    def tells_secrets(self) -> bool:
        """Yes: each worker is a process of its own."""
        return True

    async def start(self) -> None:
        """Get ready to start workers; a root template that fails only makes that slower."""
        adopt_orphans()
        self._groups = MemoryGroups.open()
        if self._fork:
            # Not waited for: the first worker is, and until then the agent takes work in.
            self._do(self._templates.start())

    def spawn(self, key: str, spec: WorkerSpec) -> None:
        """Start a worker; `Ready` or its exit follows under `key`, which must be new."""
        assert key not in self._workers, key
        worker = _Worker(key, spec, self._on_messages)
        self._workers[key] = worker
        self._none_left.clear()
        self._do(self._start(worker))

    def send(self, key: str, messages: Sequence[ToWorker]) -> None:
        """Send to a worker; dropped when it has ended, as its exit will say or has said."""
        worker = self._workers.get(key)
        if worker is not None:
            worker.send(messages)

    def kill(self, key: str, why: str) -> None:
        """End a worker and all that it started by SIGKILL; its exit follows."""
        worker = self._workers.get(key)
        if worker is None or worker.ended:
            return
        worker.why = worker.why or why or "killed"
        if worker.pid:
            _kill(worker.pid)

    async def close(self) -> None:
        """End every worker and template, and wait until nothing is left of them."""
        self._closing = True
        for key in tuple(self._workers):
            self.kill(key, "the agent ends")
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._none_left.wait()
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            _log.warning("workers_left", keys=sorted(self._workers))
        for task in self._tasks:
            task.cancel()
        await self._templates.close(CLOSE_S)
        await self._orphans.sweep()
        self._watchdog.close()
        if self._groups is not None:
            self._groups.close()

    # -------------------------------------------------------------- starting

    async def _start(self, worker: _Worker) -> None:
        try:
            await self._start_process(worker)
        except (OSError, TemplateError) as exc:
            self._end(worker, WorkerExit(status=-1, reason=f"it could not be started: {exc}"))

    async def _start_process(self, worker: _Worker) -> None:
        template = await self._templates.obtain(worker.spec) if self._fork else None
        if worker.why:  # It was to be ended before it began.
            self._end(worker, WorkerExit(status=-1, reason=worker.why))
            return
        self._limit(worker)
        worker.secrets.write()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        start = self._start_of(worker)
        if template is not None:
            worker.template = template
            self._templates.workers[template] += 1
            fds = (theirs.detach(), *worker.output.write_fds)
            worker.output.write_fds = []
            try:
                worker.pid = await template.fork_worker(start, fds)
            except TemplateError:
                ours.close()
                raise
        else:
            with theirs:
                worker.pid = self._exec(worker, start, ours, theirs)
        if worker.spec.memory_max_bytes and worker.group is None:
            self._watchdog.watch(worker.pid, worker.spec.memory_max_bytes)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: worker.link, sock=ours)
        if worker.to_be_ended():  # Asked for while it was being started.
            _kill(worker.pid)

    def _limit(self, worker: _Worker) -> None:
        if self._groups is None or not worker.spec.memory_max_bytes:
            return
        self._numbers += 1
        try:
            worker.group = self._groups.create(f"w{self._numbers}", worker.spec.memory_max_bytes)
        except OSError as exc:
            _log.warning("group_failed", worker=worker.key, error=str(exc))

    def _start_of(self, worker: _Worker) -> WorkerStart:
        spec = worker.spec
        return WorkerStart(
            cache_dir=str(self._cache_dir),
            kind=spec.kind,
            bundle_dir="" if spec.bundle_dir is None else str(spec.bundle_dir),
            cwd="" if spec.cwd is None else str(spec.cwd),
            env_vars=spec.env_vars,
            secrets=(*spec.secret_variables, *worker.secrets.variables),
            memory_max_bytes=spec.memory_max_bytes,
            group_file="" if worker.group is None else worker.group.join_file,
            limit_data=worker.group is None,
            parent=os.getpid(),
        )

    def _exec(
        self, worker: _Worker, start: WorkerStart, ours: socket.socket, theirs: socket.socket
    ) -> int:
        """Start a worker in a new interpreter; it reads its `WorkerStart` from the link."""
        out_fd, err_fd = worker.output.write_fds
        worker.output.write_fds = []
        name, _, text = self._mark.partition("=")
        try:
            popen = subprocess.Popen(
                [
                    worker.spec.python or sys.executable,
                    *("-P", "-m", "millstream_executor.worker", str(theirs.fileno())),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=out_fd,
                stderr=err_fd,
                env={**os.environ, name: text},
                start_new_session=True,
            )
        finally:
            os.close(out_fd)
            os.close(err_fd)
        # A socket that nobody has read from takes a frame of this size whole.
        ours.send(frame_of(msgspec.msgpack.encode(start)))
        self._do(self._wait_for(worker, popen))
        return popen.pid

    async def _wait_for(self, worker: _Worker, popen: subprocess.Popen[bytes]) -> None:
        """Wait for a worker that was started by exec."""
        if IS_LINUX:
            loop = asyncio.get_running_loop()
            gone: asyncio.Future[None] = loop.create_future()
            pidfd = os.pidfd_open(popen.pid)
            loop.add_reader(pidfd, _settle, gone)
            try:
                await gone
            finally:
                loop.remove_reader(pidfd)
                os.close(pidfd)
        else:
            await worker.silent.wait()
        _kill_group(popen.pid)
        # It is over, so this returns at once.
        await self._finish(worker, popen.wait())

    # -------------------------------------------------------------- ending

    def _on_over(self, pid: int, size_bytes: int) -> None:
        for worker in self._workers.values():
            if worker.pid == pid and not worker.ended and not worker.why:
                worker.over_bytes = size_bytes
                self.kill(worker.key, "over its memory limit")

    def _on_template_exit(self, template: TemplateEnd, message: Exited) -> None:
        for worker in self._workers.values():
            if worker.template is template and worker.pid == message.pid:
                worker.rss_max_bytes = message.rss_max_bytes
                code = os.waitstatus_to_exitcode(message.status)
                self._do(self._finish(worker, code))
                return

    def _on_template_lost(self, template: TemplateEnd) -> None:
        """See to the workers of a template that ended: the kernel kills them, we wait."""
        self._templates.workers.pop(template, None)
        for worker in tuple(self._workers.values()):
            if worker.template is template and worker.pid and not worker.ended:
                self._do(self._wait_for_adopted(worker))

    async def _wait_for_adopted(self, worker: _Worker) -> None:
        code = -signal.SIGKILL
        try:
            async with asyncio.timeout(_ADOPTED_S):
                while True:
                    status = _status_of(worker.pid)
                    if status is not None:
                        code = os.waitstatus_to_exitcode(status)
                        break
                    await asyncio.sleep(_ADOPTED_EVERY_S)
        except TimeoutError:
            _kill(worker.pid)
        worker.why = worker.why or "its template ended"
        await self._finish(worker, code)

    async def _finish(self, worker: _Worker, code: int) -> None:
        """Clean up after a worker that ended with `code`, and tell."""
        if worker.ended:
            return
        worker.ended = True
        if worker.template in self._templates.workers:
            self._templates.workers[worker.template] -= 1
        watched_bytes = self._watchdog.forget(worker.pid)
        if code != 0:
            await self._orphans.sweep()
        if code == EXIT_WITH_CHILDREN:
            code = 0
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await worker.silent.wait()
        except TimeoutError:
            # A descendant that could not be found holds the other end.
            worker.link.close()
        self._end(worker, self._exit_of(worker, code, watched_bytes))

    def _exit_of(self, worker: _Worker, code: int, watched_bytes: int) -> WorkerExit:
        limit_bytes = worker.spec.memory_max_bytes
        peak_bytes = max(worker.over_bytes, watched_bytes) or worker.rss_max_bytes
        oom = worker.over_bytes > 0
        if worker.group is not None:
            peak_bytes = worker.group.peak_bytes() or peak_bytes
            oom = code == -signal.SIGKILL and not worker.why and worker.group.killed_by_kernel()
        return WorkerExit(
            status=code if code >= 0 else -1,
            signal=-code if code < 0 else 0,
            oom=oom,
            limit_bytes=limit_bytes,
            peak_bytes=peak_bytes,
            reason=worker.why,
        )

    def _end(self, worker: _Worker, end: WorkerExit) -> None:
        worker.ended = True
        for fd in worker.output.write_fds:
            os.close(fd)
        worker.output.write_fds = []
        worker.output.close()
        worker.secrets.remove()
        if worker.group is not None:
            for pid in worker.group.members():
                _kill(pid)
            worker.group.remove()
        del self._workers[worker.key]
        if not self._workers:
            self._none_left.set()
        self._on_exit(worker.key, end)

    # -------------------------------------------------------------- helpers of the above

    def _known_pids(self) -> set[int]:
        pids = {worker.pid for worker in self._workers.values() if worker.pid}
        return pids | self._templates.root_pids

    def _warn(self, event: str, text: str) -> None:
        if not self._closing:
            _log.warning(event, error=text)

    def _do(self, body: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(body)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            # A bug of ours: the loop's exception hook is where the agent hears of it.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a worker was not seen to its end", "exception": exc, "task": task}
            )


def _settle(gone: asyncio.Future[None]) -> None:
    if not gone.done():
        gone.set_result(None)


def _status_of(pid: int) -> int | None:
    """Return the wait status of a child that has ended; None: not yet, or not ours yet."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return status if found else None


def _kill(pid: int) -> None:
    """Kill a worker with its group, or alone when it has not made its group yet."""
    _kill_group(pid)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
