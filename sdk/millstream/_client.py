"""The client's end of the bus: `SessionCore` with a connection, a clock and a loop around it.

One client serves a whole process. Everything here runs on one event loop, the background loop
of `_syncify`; answers go to *sinks*, plain calls that are made on that loop, so that a run
costs no task of its own. The awaitable methods are built on the sinks.
"""

import asyncio
import functools
import os
import re
import secrets
import time
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

from millstream._session import Expired, Outcome, SessionCore, WatchRefused
from millstream_events.codec import decoder_of
from millstream_events.commands import (
    AbortAction,
    AbortRun,
    Accepted,
    Command,
    ConfigureQueue,
    DeleteQueue,
    DescribeShard,
    LeaderAnnounced,
    PauseRun,
    Rejected,
    ResolveName,
    ResumeRun,
    RunReleased,
    ShardDescribed,
    SignalCondition,
    SubmitRun,
    ToClient,
)
from millstream_events.endpoint import Endpoint
from millstream_events.errors import (
    ClusterNotReachedError,
    LogUnavailableError,
    MillstreamError,
    PayloadTooLargeError,
    RejectedError,
)
from millstream_events.gates import Gates
from millstream_events.ids import Digest, RunId, new_run_id
from millstream_events.ports import Connected, EventLog
from millstream_events.queues import QueueSettings
from millstream_events.subjects import ack_subject, client_subject, command_subject, leader_subject
from millstream_events.values import Inline, Value

#: How long a command may stay without an answer.
ANSWER_DEADLINE_S: Final = 30.0
#: Between two tries to store a blob, while the streams of a new cluster are being made.
_STORE_RETRY_S: Final = 0.05

_T = TypeVar("_T")
#: Takes the one answer, or the error that stands for it. Called on the client's loop.
Sink: TypeAlias = Callable[[_T | MillstreamError], None]
_Answer: TypeAlias = Accepted | ShardDescribed

_decode_reply: Final = decoder_of(ToClient)
_decode_leader: Final = decoder_of(LeaderAnnounced)
_NOT_A_TOKEN: Final = re.compile(r"[^A-Za-z0-9_-]+")


class Client:
    """Asks one shard's leader, on behalf of one process. Make it on the loop it is to run on."""

    def __init__(self, connection: Connected, endpoint: Endpoint, *, ships_code: bool = True):
        self.connection = connection
        self.endpoint = endpoint
        #: Whether tasks run in other processes, so that their code has to travel.
        self.ships_code = ships_code
        self.who = sender_name()
        #: Digests of the bundles that this process has stored.
        self.kept: set[Digest] = set()
        self.loop = asyncio.get_running_loop()
        proc = secrets.token_hex(6)
        self._core = SessionCore(f"{self.who}.{proc}")
        self._gates = Gates[ToClient](self._take)
        self._answers: dict[bytes, Sink[_Answer]] = {}
        self._releases: dict[str, list[Sink[RunReleased]]] = {}
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._closed = False
        shard, namespace = endpoint.shard_name, endpoint.namespace
        self._subject_by = functools.partial(command_subject, namespace, shard, self.who)
        bus = connection.bus
        self._bus = bus
        self._unsubscribe = [
            bus.subscribe(client_subject(namespace, self.who, proc), self._hear),
            bus.subscribe(leader_subject(namespace, shard), self._hear_leader),
            bus.subscribe(
                ack_subject(namespace, shard, f"{self.who}.{proc}", "*", "*"), self._gates.hear
            ),
            bus.on_reconnect(self._reconnected),
        ]

    # -------------------------------------------------------------- what is asked

    def new_run_id(self) -> RunId:
        """Return a fresh run id of this client's shard."""
        return new_run_id(
            now_ms=time.time_ns() // 1_000_000,
            random_bits=secrets.randbits(48),
            region=self.endpoint.region,
            shard=self.endpoint.shard,
        )

    def send(self, command: Command, answer: Sink[_Answer], *, watch: bool = False) -> None:
        """Send `command` until it is answered; errors as those of `ask`, given to `answer`."""
        expires_ms = _now_ms() + int(ANSWER_DEADLINE_S * 1000)
        if self._closed or not self._core.open(command, expires_ms=expires_ms, watch=watch):
            answer(self._refused())
            return
        self._answers[command.command] = answer
        self._flush_soon()

    def submit_with(
        self,
        command: SubmitRun,
        accepted: Sink[Accepted],
        released: Sink[RunReleased] | None = None,
    ) -> None:
        """Submit a run, and ask for its release in the same message.

        `released` is called after `accepted`, and not at all when the submission fails.
        """

        def take(answer: "_Answer | MillstreamError") -> None:  # Quoted: read at each submission.
            assert not isinstance(answer, ShardDescribed), answer
            sinks = self._releases.pop(command.run, [])
            if sinks and isinstance(answer, Accepted):
                # Under a known name the run may be another one than the one asked for.
                self._releases.setdefault(answer.run, []).extend(sinks)
            accepted(answer)

        if released is not None:
            self._releases.setdefault(command.run, []).append(released)
        self.send(command, take, watch=released is not None)

    def watch_with(self, run: str, released: Sink[RunReleased]) -> None:
        """Call `released` when `run` is over, also when it is over already."""
        sinks = self._releases.setdefault(run, [])
        sinks.append(released)
        if len(sinks) == 1:
            self._core.watch(run)
            self._flush_soon()

    async def ask(self, command: Command) -> Accepted | ShardDescribed:
        """Return the answer to any command but `WatchRun`.

        Raises:
            RejectedError: The leader refused, or stayed busy until the deadline.
            ClusterNotReachedError: No sign of a leader within `ANSWER_DEADLINE_S`.
            LogUnavailableError: A leader is there, but it did not answer within
                `ANSWER_DEADLINE_S`; what was asked may still happen.
            PayloadTooLargeError: The command does not fit into a message; it was not sent.
        """
        future: asyncio.Future[_Answer] = self.loop.create_future()
        self.send(command, lambda answer: settle(future, answer))
        try:
            return await future
        except asyncio.CancelledError:
            self._core.give_up(command.command)
            self._answers.pop(command.command, None)
            raise

    async def submit(self, command: SubmitRun) -> Accepted:
        """Submit a run; its id is in the answer. Errors as those of `ask`."""
        return _accepted(await self.ask(command))

    async def wait(self, run: str) -> RunReleased:
        """Return the end of `run`, however long that takes.

        Raises:
            RejectedError: The leader does not know the run.
        """
        future: asyncio.Future[RunReleased] = self.loop.create_future()

        def sink(release: RunReleased | MillstreamError) -> None:
            settle(future, release)

        self.watch_with(run, sink)
        try:
            return await future
        except asyncio.CancelledError:
            self._forget(run, sink)
            raise

    async def abort_run(self, run: str, reason: str = "") -> Accepted:
        """End `run` and everything in it. Errors as those of `ask`."""
        return _accepted(await self.ask(AbortRun(new_command_id(), run, self.who, reason)))

    async def abort_action(self, run: str, action: int, reason: str = "") -> Accepted:
        """End one action and everything below it. Errors as those of `ask`."""
        command = AbortAction(new_command_id(), run, action, self.who, reason)
        return _accepted(await self.ask(command))

    async def pause_run(self, run: str, reason: str = "") -> Accepted:
        """Dispatch nothing more of `run` until it is resumed. Errors as those of `ask`."""
        return _accepted(await self.ask(PauseRun(new_command_id(), run, self.who, reason)))

    async def resume_run(self, run: str, reason: str = "") -> Accepted:
        """Dispatch `run` again. Errors as those of `ask`."""
        return _accepted(await self.ask(ResumeRun(new_command_id(), run, self.who, reason)))

    async def signal_condition(self, run: str, condition: bytes, value: Value) -> Accepted:
        """Answer a condition. Errors as those of `ask`; `already-ended`: with another answer."""
        command = SignalCondition(new_command_id(), run, condition, value, self.who)
        return _accepted(await self.ask(command))

    async def configure_queue(
        self, name: str, settings: QueueSettings, *, create: bool
    ) -> Accepted:
        """Create a queue or change one. Errors as those of `ask`."""
        command = ConfigureQueue(new_command_id(), name, settings, create, self.who)
        return _accepted(await self.ask(command))

    async def delete_queue(self, name: str) -> Accepted:
        """Forget a queue's settings. Errors as those of `ask`."""
        return _accepted(await self.ask(DeleteQueue(new_command_id(), name, self.who)))

    async def resolve(self, name: str, project: str) -> str:
        """Return the run that has the alias `name`. Errors as those of `ask`."""
        return _accepted(await self.ask(ResolveName(new_command_id(), project, name))).run

    async def describe(self) -> ShardDescribed:
        """Return who leads the shard and what it has to work with. Errors as those of `ask`."""
        answer = await self.ask(DescribeShard(new_command_id()))
        assert isinstance(answer, ShardDescribed), answer
        return answer

    async def keep(self, content: bytes) -> Digest:
        """Store `content` as a blob; waits for a cluster that is still starting.

        Raises:
            LogUnavailableError: The store did not take it within `ANSWER_DEADLINE_S`.
            LogFullError: No room.
        """
        end_s = time.monotonic() + ANSWER_DEADLINE_S
        while True:
            try:
                return await self.connection.blobs.put(content)
            except LogUnavailableError:
                if time.monotonic() > end_s:
                    raise
            await asyncio.sleep(_STORE_RETRY_S)

    async def content_of(self, value: Value) -> bytes:
        """Return the content of `value`; errors as those of `BlobStore.get`."""
        if isinstance(value, Inline):
            return value.content
        return await self.connection.blobs.get(value.digest)

    @property
    def log(self) -> EventLog:
        """The log of this client's shard."""
        return self.connection.event_log(self.endpoint.shard_name)

    async def close(self) -> None:
        """Stop listening; whatever is unanswered fails with `ClusterNotReachedError`."""
        if self._closed:
            return
        self._closed = True
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
        gone = ClusterNotReachedError(self.endpoint.url, "the client was closed")
        answers, self._answers = self._answers, {}
        releases, self._releases = self._releases, {}
        for answer in answers.values():
            answer(gone)
        for sinks in releases.values():
            for sink in sinks:
                sink(gone)
        await self.connection.close()

    # -------------------------------------------------------------- the bus

    def _hear(self, subject: str, payload: bytes) -> None:
        del subject
        message = _decode_reply(payload)
        if message is None:
            return  # Anybody with a credential may send anything.
        if message.gate:
            self._gates.keep(message.gate, message.gate_seq, message)
        else:
            self._take(message)

    def _take(self, message: ToClient) -> None:
        for outcome in self._core.receive(message, _now_ms()):
            self._settle(outcome)
        self._flush_soon()

    def _hear_leader(self, subject: str, payload: bytes) -> None:
        del subject
        message = _decode_leader(payload)
        if message is not None and message.epoch > self._core.epoch:
            self._core.announce(message.epoch)
            self._flush_soon()

    def _reconnected(self) -> None:
        self._core.repeat_all()
        self._flush_soon()

    def _flush_soon(self) -> None:
        # One flush for each turn of the loop, however much was asked in it.
        if self._flush_due or self._closed or self._core.idle:
            self._arm()
            return
        self._flush_due = True
        self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._closed:
            return
        messages, expired = self._core.flush(_now_ms())
        for message in messages:
            try:
                self._bus.publish(self._subject_by(message.agent), message.payload)
            except PayloadTooLargeError as exc:
                for command in message.commands:
                    self._core.give_up(command)
                    self._answer(command, exc)
        self._bus.flush()
        for end in expired:
            self._answer(end.command, self._expiry(end))
        self._arm()

    def _arm(self) -> None:
        due_ms = self._core.next_due_ms()
        if due_ms is None or self._closed:
            return
        if self._timer is not None:
            if self._timer_ms <= due_ms:
                return
            self._timer.cancel()
        self._timer_ms = due_ms
        self._timer = self.loop.call_later(max(0, due_ms - _now_ms()) / 1000, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if not self._flush_due:
            self._flush_due = True
            self._flush()

    # -------------------------------------------------------------- what comes back

    def _settle(self, outcome: Outcome) -> None:
        match outcome:
            case RunReleased():
                self._release(outcome.run, outcome)
            case Accepted() | ShardDescribed():
                self._answer(outcome.command, outcome)
            case Rejected():
                self._answer(outcome.command, _rejection(outcome))
            case WatchRefused():
                self._release(outcome.run, _rejection(outcome.refusal))
            case Expired():
                self._answer(outcome.command, self._expiry(outcome))

    def _answer(self, command: bytes, answer: _Answer | MillstreamError) -> None:
        sink = self._answers.pop(command, None)
        if sink is not None:
            sink(answer)

    def _release(self, run: str, release: RunReleased | MillstreamError) -> None:
        for sink in self._releases.pop(run, ()):
            sink(release)

    def _forget(self, run: str, sink: Sink[RunReleased]) -> None:
        sinks = self._releases.get(run, [])
        if sink in sinks:
            sinks.remove(sink)
        if not sinks:
            self._releases.pop(run, None)
            self._core.unwatch(run)

    def _refused(self) -> MillstreamError:
        if self._closed:
            return ClusterNotReachedError(self.endpoint.url, "the client was closed")
        return RejectedError("busy", "too many commands of this process are open", 1000)

    def _expiry(self, end: Expired) -> MillstreamError:
        if end.last is not None:
            return _rejection(end.last)
        why = f"no answer within {ANSWER_DEADLINE_S:.0f} s"
        if self._core.epoch == 0:
            return ClusterNotReachedError(self.endpoint.url, why)
        return LogUnavailableError(self.endpoint.shard_name, why)


def new_command_id() -> bytes:
    """Return 16 random bytes."""
    return secrets.token_bytes(16)


def settle(future: "asyncio.Future[_T]", outcome: _T | MillstreamError) -> None:
    """Give `future` its result or its error, on its own loop, unless it was cancelled."""
    if future.done():
        return
    if isinstance(outcome, MillstreamError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def sender_name() -> str:
    """Return who this process speaks for, as one token of a subject."""
    name = os.environ.get("USER") or os.environ.get("LOGNAME") or f"uid{os.getuid()}"
    return _NOT_A_TOKEN.sub("-", name)[:32].strip("-") or "anonymous"


def _rejection(rejected: Rejected) -> RejectedError:
    return RejectedError(rejected.code, rejected.reason, rejected.retry_after_ms)


def _accepted(answer: Accepted | ShardDescribed) -> Accepted:
    assert isinstance(answer, Accepted), answer
    return answer


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
