"""What the SDK asks of its host while a task runs in a worker, carried over the link."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, TypeAlias

from millstream._context import Call, Divergence, Question, TraceResult
from millstream_events.errors import RejectedError
from millstream_events.ids import token_of
from millstream_events.plans import CODEC_PLAN
from millstream_events.reports import (
    Annotate,
    Diverged,
    JournalEntry,
    JournalPage,
    OpenCondition,
    RecordTrace,
    Refuse,
    Release,
    SetTimer,
    StartAction,
    Work,
)
from millstream_events.values import Inline, Value
from millstream_executor.children import asks_for_this_loop, child_work
from millstream_executor.collector import collector
from millstream_executor.link import (
    CallChild,
    CallCondition,
    CallTimer,
    DropChild,
    ForwardCondition,
    ForwardDivergence,
    ForwardTrace,
    FromWorker,
    Keep,
    WantJournal,
)
from millstream_executor.worker_blobs import WorkerBlobs

#: Ids that one finding names; it is for people, who look at the first ones.
DIVERGED_IDS_MAX: Final = 100

Post: TypeAlias = Callable[[FromWorker], None]

#: Turns of the loop until what was posted has left the process: the link flushes at the end of
#: one, and uvloop writes what was flushed at the end of the next.
_TURNS_TO_WRITE: Final = 2


class WorkerController:
    """The controller of one attempt in a worker. On the worker's loop only."""

    def __init__(
        self, work: Work, post: Post, blobs: WorkerBlobs, begin: Callable[[Work], None]
    ) -> None:
        """Serve one attempt.

        Args:
            work: What the attempt is to do.
            post: Sends a message to the agent.
            blobs: Where large values lie.
            begin: Begins another attempt in this worker.
        """
        self._work = work
        self._post = post
        self._blobs = blobs
        self._begin = begin
        #: The next child may begin here; see `eager.permits`.
        self._permitted = False
        self._early = 0
        self._journal = {entry.id: entry for entry in work.journal}
        #: What the attempt waits for, by the id of the call; several awaits may share one.
        self._open: dict[bytes, list[asyncio.Future[JournalEntry]]] = {}
        self._page: asyncio.Future[JournalPage] | None = None
        #: Ids that the code of this attempt has asked for, in its order.
        self._asked: dict[bytes, str] = {}
        #: What was left behind and is not durable yet, by the number of its message.
        self._keeping: dict[int, asyncio.Future[None]] = {}
        self._kept = 0
        self._stopped = False
        self._over = False

    # -------------------------------------------------------------- from the worker

    async def load_journal(self) -> None:
        """Fetch the rest of the journal, so that `recorded` knows every earlier outcome."""
        start = self._work.journal_next
        while start and not self._stopped:
            self._page = asyncio.get_running_loop().create_future()
            self._post(WantJournal(self._work.token, start))
            page = await self._page
            self._journal.update({entry.id: entry for entry in page.entries})
            start = page.next if page.next > start else 0

    def deliver_page(self, page: JournalPage) -> None:
        """Take the answer to `WantJournal`; a second one is dropped."""
        if self._page is not None and not self._page.done():
            self._page.set_result(page)

    def deliver(self, release: Release) -> None:
        """Let whoever awaits this outcome go on; nobody may, when it was dropped meanwhile."""
        entry = JournalEntry(
            release.id, release.action, release.phase, release.output, release.error
        )
        for waiting in self._open.pop(release.id, ()):
            if not waiting.done():
                waiting.set_result(entry)

    def refuse(self, refusal: Refuse) -> None:
        """Raise at the call that the leader refused."""
        for waiting in self._open.pop(refusal.id, ()):
            if not waiting.done():
                waiting.set_exception(
                    RejectedError(refusal.code, refusal.reason, refusal.retry_after_ms)
                )

    def permit(self, *, granted: bool = True) -> None:
        """Let the next child begin here at once, or let it not."""
        self._permitted = granted

    def kept(self, number: int) -> None:
        """Take the word that what was left behind is durable."""
        waiting = self._keeping.pop(number, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def stop(self) -> None:
        """End every open call by `CancelledError`, and each further one at once."""
        self._stopped = True
        for kept in self._keeping.values():
            kept.cancel()
        if self._page is not None:
            self._page.cancel()
        for waiting in [future for futures in self._open.values() for future in futures]:
            waiting.cancel()

    def close(self) -> None:
        """End what the attempt left open; nobody is told, for the attempt is over."""
        self._over = True
        self.stop()

    # -------------------------------------------------------------- `Controller`

    async def call(self, call: Call) -> JournalEntry:
        """Run a child and return its outcome. Cancelling aborts the child.

        Raises:
            RejectedError: The leader refused the call.
        """
        self._asked[call.id] = call.task.name
        inputs: Value | None = None
        if call.content is not None:
            # A plan is for the leader, which reads no blobs.
            is_plan = call.codec == CODEC_PLAN
            inputs = await self.store(call.content, call.codec) if not is_plan else None
            inputs = inputs or Inline(call.codec, call.content)
        action = StartAction(
            self._work.run,
            self._work.action,
            self._work.token,
            call.id,
            call.kind,
            call.task,
            inputs,
            call.inputs_hash,
            call.group,
            call.k,
            call.policy,
            call.cache_key,
            call.cache_mode,
            items=call.items,
        )
        return await self._wait(call.id, CallChild(action))

    async def sleep(self, action_id: bytes, due_ms: int) -> None:
        """Return when Unix time `due_ms` has come; at once when it was recorded that it has."""
        self._asked.setdefault(action_id, "")
        if action_id in self._journal:
            return
        timer = SetTimer(self._work.run, self._work.action, self._work.token, action_id, due_ms)
        await self._wait(action_id, CallTimer(timer))

    async def open_condition(self, question: Question) -> None:
        """Put a condition on its way to the log; nobody waits for its answer yet."""
        if not self._over and question.id not in self._journal:
            self._post(ForwardCondition(self._opening(question)))

    async def wait_for_condition(self, question: Question) -> JournalEntry:
        """Return how the condition ended. Cancelling leaves it open, for a later wait.

        Raises:
            RejectedError: The leader refused the condition.
        """
        recorded = self._journal.get(question.id)
        if recorded is not None:
            return recorded
        return await self._wait(question.id, CallCondition(self._opening(question)))

    def _opening(self, question: Question) -> OpenCondition:
        return OpenCondition(
            self._work.run,
            self._work.action,
            self._work.token,
            question.id,
            question.name,
            question.expects,
            question.prompt,
            question.webhook,
            question.extras,
        )

    def recorded(self, action_id: bytes) -> JournalEntry | None:
        """Return the recorded outcome of an earlier attempt's call or trace, if there is one."""
        self._asked.setdefault(action_id, "")
        return self._journal.get(action_id)

    def divergence(self) -> Divergence | None:
        """Compare what this attempt asked for with what earlier ones had recorded."""
        # What comes from a run that this one recovers has no name: changed code may leave it.
        missing = [
            entry for id_, entry in self._journal.items() if entry.name and id_ not in self._asked
        ]
        if not missing:
            return None
        names = {entry.name for entry in missing}
        new = [id_ for id_ in self._asked if id_ not in self._journal]
        instead = next((id_ for id_ in new if self._asked[id_] in names), b"")
        return Divergence(tuple(missing), instead, self._asked.get(instead, ""))

    async def note_divergence(self, found: Divergence, policy: str) -> None:
        """Put the finding on its way to the log."""
        expected = tuple(entry.id for entry in found.recorded[:DIVERGED_IDS_MAX])
        work = self._work
        finding = Diverged(work.run, work.action, work.token, expected, found.requested, policy)
        if not self._over:
            self._post(ForwardDivergence(finding))

    async def keep(self, key: str, value: Value) -> None:
        """Leave `value` behind under `key`; it is durable when this returns.

        Raises:
            asyncio.CancelledError: The attempt has been told to end.
        """
        if self._stopped:
            raise asyncio.CancelledError
        self._kept += 1
        number = self._kept
        work = self._work
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeping[number] = waiting
        self._post(Keep(number, Annotate(work.run, work.action, work.token, key, value)))
        try:
            await waiting
        finally:
            self._keeping.pop(number, None)

    async def record_trace(self, result: TraceResult) -> None:
        """Put a finished `trace` step on its way to the log.

        On return the agent has been told, so that a worker which dies in the very next statement
        does not lose the step; that it is durable is not waited for.
        """
        self._asked[result.id] = result.name
        output: Value | None = None
        if result.content is not None:
            output = await self.store(result.content, result.codec)
        trace = RecordTrace(
            self._work.run,
            self._work.action,
            self._work.token,
            result.id,
            result.name,
            result.inputs_hash,
            output,
            result.error,
            result.started_ns,
            result.ended_ns,
        )
        if not self._over:
            self._post(ForwardTrace(trace))
            for _ in range(_TURNS_TO_WRITE):
                await asyncio.sleep(0)

    async def fetch(self, value: Value) -> bytes:
        """Return the content of `value`.

        Raises:
            BlobMissingError, BlobCorruptError, LogUnavailableError: as `BlobStore.get`.
        """
        return await self._blobs.fetch(value)

    async def store(self, content: bytes, codec: str) -> Value:
        """Return a `Value` for `content`: inline when it is small, else a stored blob.

        Raises:
            LogUnavailableError, LogFullError: as `BlobStore.put`.
        """
        return await self._blobs.store(content, codec)

    async def _wait(
        self, action_id: bytes, request: CallChild | CallTimer | CallCondition
    ) -> JournalEntry:
        first = True
        while True:
            try:
                return await self._ask(action_id, request, early=first)
            except RejectedError as exc:
                # A full queue empties by itself, so there is no bound to the repetitions.
                if exc.retry_after_ms <= 0:
                    raise
                await self._rest(action_id, request, exc.retry_after_ms / 1000)
                first = False

    async def _rest(
        self, action_id: bytes, request: CallChild | CallTimer | CallCondition, seconds: float
    ) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            # The agent takes the call for pending all this time.
            self._drop(action_id, request)
            raise

    def _drop(self, action_id: bytes, request: CallChild | CallTimer | CallCondition) -> None:
        if not self._over:
            keep = isinstance(request, CallCondition)
            self._post(DropChild(self._work.token, action_id, keep))

    def _begun(self, request: CallChild) -> CallChild:
        """Begin the child here if that is permitted, and return the call that says so.

        Its first turn comes before the link's next flush, so that call, start and end of a
        short one leave in one batch.
        """
        work, call = self._work, request.call
        if not self._permitted or not asks_for_this_loop(work, call):
            return request
        self._permitted = False
        self._early += 1
        token = token_of(work.token + call.id, self._early)
        self._begin(child_work(work, call, token, work.generation))
        return CallChild(call, token)

    async def _ask(
        self, action_id: bytes, request: CallChild | CallTimer | CallCondition, *, early: bool
    ) -> JournalEntry:
        if self._stopped:
            raise asyncio.CancelledError
        future: asyncio.Future[JournalEntry] = asyncio.get_running_loop().create_future()
        sharing = self._open.setdefault(action_id, [])
        sharing.append(future)
        if len(sharing) == 1:
            if early and isinstance(request, CallChild):
                request = self._begun(request)
            self._post(request)
        collector.opened()
        try:
            return await future
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):  # Delivered in the same tick.
                sharing.remove(future)
            if not sharing and self._open.get(action_id) is sharing:
                del self._open[action_id]
                self._drop(action_id, request)
            raise
        finally:
            collector.closed()
