"""A worker: the process that runs user code, and nothing else of ours.

It speaks to its agent over one socket, ends when that socket does, and knows neither NATS nor
the log. A template forks it (`main`), or the agent starts it by exec where forking is not safe:
`python -m millstream_executor.worker LINK_FD`, its `WorkerStart` being the first frame.
"""

import asyncio
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import uvloop

from millstream_events.reports import Work
from millstream_events.values import WORKER_ALONE, WORKER_ASYNC, Blob, ErrorRecord
from millstream_executor import capture
from millstream_executor.attempt import Attempt, AttemptHost, RunnableTask
from millstream_executor.controller import WorkerController
from millstream_executor.link import (
    AttemptBegan,
    BlobFetched,
    BlobStored,
    CancelAttempt,
    Deliver,
    DeliverJournal,
    DeliverRefusal,
    Drain,
    FromWorker,
    Ping,
    Pong,
    Ready,
    RunAttempt,
    ToWorker,
    Unusable,
)
from millstream_executor.loader import TaskLoader, TaskLoadError, enter_bundle
from millstream_executor.native import adopt_orphans, die_with_parent, flush_c_stdout, has_children
from millstream_executor.sandbox import join_group, limit_data
from millstream_executor.template_link import EXIT_WITH_CHILDREN, WorkerStart
from millstream_executor.threads import TaskThreads
from millstream_executor.worker_blobs import WorkerBlobs
from millstream_executor.worker_link import HEAD_BYTES, LinkEnd, frame_size

#: With a CPU-bound thread beside it, the loop gets its turn after this long instead of 5 ms.
SWITCH_INTERVAL_S: Final = 0.0005
#: Longest that a worker waits at its end for the agent to take what it has written.
CLOSE_S: Final = 5.0

_decoder: Final = msgspec.msgpack.Decoder[tuple[ToWorker, ...]](tuple[ToWorker, ...])


class _Held(msgspec.Struct):
    """One attempt in this worker."""

    attempt: Attempt
    controller: WorkerController
    runner: asyncio.Task[None] | None = None


class Worker:
    """Runs attempts, as many at once as the agent gives it."""

    def __init__(self, start: WorkerStart, loader: TaskLoader) -> None:
        self._start = start
        self._loader = loader
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._lost = asyncio.Event()
        self._draining = False
        self._held: dict[bytes, _Held] = {}
        self._link = LinkEnd[ToWorker, FromWorker](_decoder, self._on_batch, self._on_lost)
        self._blobs = WorkerBlobs(Path(start.cache_dir), self._post)
        self._threads = TaskThreads()
        self.capture = capture.Capture(self._post, self._loop)

    async def serve(self, link: socket.socket, unusable: ErrorRecord | None) -> int:
        """Serve until the agent wants no more, and return the exit status."""
        await self._loop.create_connection(lambda: self._link, sock=link)
        self._post(Ready(os.getpid()))
        if unusable is not None:
            self._post(Unusable(unusable))
        await self._over.wait()
        flush_c_stdout()
        self.capture.finish()
        self._link.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._lost.wait()
        except TimeoutError:
            return 1
        return EXIT_WITH_CHILDREN if has_children() else 0

    def _post(self, message: FromWorker) -> None:
        self._link.send((message,))

    def _on_lost(self, exc: Exception | None) -> None:
        if not self._over.is_set():
            # The agent is gone, and with it everybody who would hear of the attempts here.
            os._exit(1)
        self._lost.set()

    def _on_batch(self, batch: tuple[ToWorker, ...]) -> None:
        for message in batch:
            self._on_message(message)

    def _on_message(self, message: ToWorker) -> None:
        match message:
            case RunAttempt():
                self._begin(message.work)
            case Deliver():
                if (held := self._held.get(message.release.token)) is not None:
                    held.controller.deliver(message.release)
            case DeliverRefusal():
                if (held := self._held.get(message.refusal.token)) is not None:
                    held.controller.refuse(message.refusal)
            case DeliverJournal():
                if (held := self._held.get(message.page.token)) is not None:
                    held.controller.deliver_page(message.page)
            case CancelAttempt():
                if (held := self._held.get(message.token)) is not None:
                    held.attempt.cancel()
            case BlobFetched():
                self._blobs.fetched(message)
            case BlobStored():
                self._blobs.stored(message)
            case Ping():
                self._post(Pong(message.number))
            case Drain():
                self._draining = True
                self._end_if_drained()

    def _begin(self, work: Work) -> None:
        if work.token in self._held:
            return  # Said twice.
        controller = WorkerController(work, self._post, self._blobs)
        alone = self._start.kind == WORKER_ALONE
        host = AttemptHost(
            threads=self._threads,
            mode="remote",
            on_began=lambda started_ns: self._post(AttemptBegan(work.token, started_ns)),
            stop_calls=controller.stop,
            alone=alone,
            memory_max_bytes=self._start.memory_max_bytes,
        )
        held = _Held(Attempt(work, controller, host), controller)
        self._held[work.token] = held
        held.runner = self._loop.create_task(self._run(work, held))
        held.runner.add_done_callback(_surface)

    async def _run(self, work: Work, held: _Held) -> None:
        """Run one attempt and report its end, with everything that it printed before it."""
        capture.enter(self.capture.open(work.token, work.attempt))

        async def load() -> RunnableTask:
            await held.controller.load_journal()
            return await self._load(work)

        ended = await held.attempt.run(load)
        held.controller.close()
        flush_c_stdout()
        self.capture.close(work.token)
        self._post(ended)
        del self._held[work.token]
        self._end_if_drained()

    async def _load(self, work: Work) -> RunnableTask:
        pickled: bytes | None = None
        if work.task.pickled is not None and not self._loader.has(work.task):
            pickled = await self._blobs.fetch_blob(Blob(work.task.pickled, 0, "pickle"))
        task: RunnableTask = self._loader.load(work.task, pickled)
        return task

    def _end_if_drained(self) -> None:
        if self._draining and not self._held:
            self._over.set()


def main(start: WorkerStart, link: socket.socket, loader: TaskLoader | None = None) -> NoReturn:
    """Be a worker until the agent wants no more, and end the process.

    Args:
        start: What the agent says of the worker.
        link: The socket to the agent.
        loader: Of the template, with the bundle loaded already; None: load it here.
    """
    if start.group_file:
        join_group(start.group_file)
    elif start.limit_data and start.memory_max_bytes:
        limit_data(start.memory_max_bytes)
    # What tasks start and leave behind stays below this process until it ends.
    adopt_orphans()
    capture.install()
    unusable: ErrorRecord | None = None
    if loader is None:
        loader, unusable = _enter(start)
    if start.kind != WORKER_ASYNC:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_serve(start, link, loader, unusable))
        # Neither threads that tasks left behind nor finalizers of theirs may keep the process.
        os._exit(code)


def _surface(runner: asyncio.Task[None]) -> None:
    """End the worker when running an attempt failed by a bug of ours: the agent hears of that."""
    exc = None if runner.cancelled() else runner.exception()
    if exc is not None:
        traceback.print_exception(exc, file=sys.__stderr__)
        os._exit(os.EX_SOFTWARE)


async def _serve(
    start: WorkerStart, link: socket.socket, loader: TaskLoader, unusable: ErrorRecord | None
) -> int:
    worker = Worker(start, loader)
    capture.activate(worker.capture)
    return await worker.serve(link, unusable)


def _enter(start: WorkerStart) -> tuple[TaskLoader, ErrorRecord | None]:
    os.environ.update(start.env_vars)
    bundle_dir = Path(start.bundle_dir) if start.bundle_dir else None
    loader = TaskLoader(bundle_dir)
    try:
        enter_bundle(bundle_dir, Path(start.cwd) if start.cwd else None)
    except TaskLoadError as exc:
        return loader, exc.record()
    # What fails to load here fails again, and is told, in the attempt that needs it.
    loader.preload()
    return loader, None


def _read_start(link: socket.socket) -> WorkerStart:
    size = frame_size(_read_exactly(link, HEAD_BYTES))
    return msgspec.msgpack.decode(_read_exactly(link, size), type=WorkerStart)


def _read_exactly(link: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        chunk = link.recv(size - len(content))
        if not chunk:
            raise EOFError("the agent is gone")
        content += chunk
    return content


if __name__ == "__main__":
    _link = socket.socket(fileno=int(sys.argv[1]))
    _start = _read_start(_link)
    die_with_parent(_start.parent)
    main(_start, _link)
