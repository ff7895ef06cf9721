"""The attempts of one worker: what its agent says is carried out, what they say is posted.

Knows no socket and no process, so a worker process and local mode share it.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from millstream_events.reports import Work
from millstream_events.values import Blob
from millstream_executor.attempt import Attempt, AttemptHost, RunnableTask
from millstream_executor.collector import collector
from millstream_executor.controller import Post, WorkerController
from millstream_executor.link import (
    AttemptBegan,
    AttemptEnded,
    BlobFetched,
    BlobStored,
    CancelAttempt,
    Deliver,
    DeliverJournal,
    DeliverRefusal,
    Drain,
    Kept,
    MayBegin,
    MayNotBegin,
    Ping,
    Pong,
    RunAttempt,
    ToWorker,
)
from millstream_executor.loader import TaskLoader
from millstream_executor.threads import TaskThreads
from millstream_executor.worker_blobs import WorkerBlobs


class AttemptsHost(msgspec.Struct, frozen=True, kw_only=True):
    """What the attempts of one worker share."""

    #: local or remote.
    mode: str
    loader: TaskLoader
    blobs: WorkerBlobs
    threads: TaskThreads
    #: Sends a message to the agent.
    post: Post
    #: Called around user code, to tell its output apart, and to report the end of an attempt.
    enter: Callable[[Work], None]
    leave: Callable[[Work, AttemptEnded], None]
    #: Called with a bug of ours: the worker must not go on.
    surface: Callable[[asyncio.Task[None]], None]
    #: The process runs one attempt only, with this limit; 0: none.
    alone: bool = False
    memory_max_bytes: int = 0


class _Held(msgspec.Struct):
    """One attempt."""

    attempt: Attempt
    controller: WorkerController
    runner: asyncio.Task[None] | None = None


class Attempts:
    """Runs attempts, as many at once as it is given. On one event loop."""

    def __init__(self, host: AttemptsHost) -> None:
        self._host = host
        self._held: dict[bytes, _Held] = {}
        #: Set when the last attempt has ended after a `Drain`.
        self.over = asyncio.Event()
        self._draining = False

    def take(self, messages: Sequence[ToWorker]) -> None:
        """Carry out what the agent says."""
        for message in messages:
            self._take(message)

    def cancel_all(self) -> None:
        """Cancel every attempt; each still reports how it ended."""
        for held in list(self._held.values()):
            held.attempt.cancel()

    def _take(self, message: ToWorker) -> None:
        match message:
            case RunAttempt():
                self._begin(message.work)
            case MayBegin():
                if (held := self._held.get(message.token)) is not None:
                    held.controller.permit()
            case MayNotBegin():
                if (held := self._held.get(message.token)) is not None:
                    held.controller.permit(granted=False)
            case Deliver() | DeliverRefusal() | DeliverJournal() | Kept():
                self._answer(message)
            case CancelAttempt():
                if (held := self._held.get(message.token)) is not None:
                    held.attempt.cancel()
            case BlobFetched():
                self._host.blobs.fetched(message)
            case BlobStored():
                self._host.blobs.stored(message)
            case Ping():
                self._host.post(Pong(message.number))
            case Drain():
                self._draining = True
                self._end_if_drained()

    def _answer(self, message: Deliver | DeliverRefusal | DeliverJournal | Kept) -> None:
        """Hand an answer to the attempt that asked, if it is still here."""
        match message:
            case Deliver():
                if (held := self._held.get(message.release.token)) is not None:
                    held.controller.deliver(message.release)
            case DeliverRefusal():
                if (held := self._held.get(message.refusal.token)) is not None:
                    held.controller.refuse(message.refusal)
            case DeliverJournal():
                if (held := self._held.get(message.page.token)) is not None:
                    held.controller.deliver_page(message.page)
            case Kept():
                if (held := self._held.get(message.token)) is not None:
                    held.controller.kept(message.number)

    def _begin(self, work: Work) -> None:
        if work.token in self._held:
            return  # Said twice.
        controller = WorkerController(work, self._host.post, self._host.blobs, self._begin)
        host = AttemptHost(
            threads=self._host.threads,
            mode=self._host.mode,
            on_began=lambda started_ns: self._host.post(AttemptBegan(work.token, started_ns)),
            stop_calls=controller.stop,
            alone=self._host.alone,
            memory_max_bytes=self._host.memory_max_bytes,
        )
        held = _Held(Attempt(work, controller, host), controller)
        self._held[work.token] = held
        collector.opened()
        held.runner = asyncio.get_running_loop().create_task(self._run(work, held))
        held.runner.add_done_callback(self._host.surface)

    async def _run(self, work: Work, held: _Held) -> None:
        """Run one attempt and report its end, with everything that it printed before it."""
        self._host.enter(work)

        async def load() -> RunnableTask:
            await held.controller.load_journal()
            return await self._load(work)

        ended = await held.attempt.run(load)
        held.controller.close()
        del self._held[work.token]
        collector.closed()
        self._host.leave(work, ended)
        self._end_if_drained()

    async def _load(self, work: Work) -> RunnableTask:
        loader = self._host.loader
        pickled: bytes | None = None
        if work.task.pickled is not None and not loader.has(work.task):
            pickled = await self._host.blobs.fetch_blob(Blob(work.task.pickled, 0, "pickle"))
        task: RunnableTask = loader.load(work.task, pickled)
        return task

    def _end_if_drained(self) -> None:
        if self._draining and not self._held:
            self.over.set()
