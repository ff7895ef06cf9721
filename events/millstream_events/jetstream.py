"""`EventLog` on one JetStream stream (design: architecture.md 2.4, reliability.md 0.3)."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import Final

from millstream_events.codec import MESSAGE_BYTES_MAX
from millstream_events.errors import LogUnavailableError, PayloadTooLargeError
from millstream_events.gates import Gate
from millstream_events.nats_protocol import Message
from millstream_events.nats_streams import (
    WRONG_LAST_SEQUENCE,
    PubAck,
    ensure_stream,
    entry_of,
    get_message,
    last_sequence,
    read_ack,
    read_batch,
)
from millstream_events.nats_wire import NatsWire
from millstream_events.ports import (
    APPEND_DEADLINE_S,
    READ_DEADLINE_S,
    Appended,
    AppendRefused,
    AppendResult,
    AppendSink,
    AppendUnclear,
    LogEntry,
    StoreFull,
)
from millstream_events.subjects import (
    HEADER_EXPECTED_SEQ,
    ack_subject,
    log_stream,
    log_subject,
    stored_subject,
)

#: Pause between two looks at appends that wait for too long.
SWEEP_INTERVAL_S: Final = 0.1
#: A follower reads again after this time without news, whatever its feed says.
RESYNC_INTERVAL_S: Final = 1.0
#: Records that a follower's feed may hold; above it the feed is dropped and read again.
FEED_MAX: Final = 4096
#: Records that a follower reads at once.
FOLLOW_BATCH: Final = 1000
#: Pause before a follower reads again after a failure.
FOLLOW_RETRY_S: Final = 0.1
#: The server's smallest: nothing here relies on message ids.
DUPLICATE_WINDOW_NS: Final = 100_000_000
#: Between two tries of a read while the server is away.
READ_AGAIN_S: Final = 0.05
_EXPECTED_HEAD: Final = b"NATS/1.0\r\n%b: %%d\r\n\r\n" % HEADER_EXPECTED_SEQ.encode()

_logger: Final = logging.getLogger("millstream.log")


async def ensure_log(wire: NatsWire, ns: str, shard: str, *, replicas: int) -> int:
    """Make the shard's stream unless it is there; return its number of replicas.

    Raises:
        ConfigError: The stream is there with settings that endanger the log.
        LogUnavailableError: No answer in time.
    """
    return await ensure_stream(
        wire,
        log_stream(shard),
        {
            "subjects": [log_subject(ns, shard, "*")],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "num_replicas": replicas,
            "allow_direct": True,
            "deny_delete": True,
            "duplicate_window": DUPLICATE_WINDOW_NS,
            "republish": {
                "src": log_subject(ns, shard, "*"),
                "dest": stored_subject(ns, shard, "{{wildcard(1)}}"),
            },
        },
    )


class _InFlight:
    """One append without an answer, or with one that waits for its predecessors'."""

    __slots__ = ("due_s", "expected_seq", "reply", "result", "sink")

    def __init__(self, expected_seq: int, sink: AppendSink, due_s: float) -> None:
        self.expected_seq = expected_seq
        self.sink = sink
        #: On the loop's clock: when it becomes unclear.
        self.due_s = due_s
        self.reply = ""
        self.result: AppendResult | None = None


class JetStreamLog:
    """`EventLog` over one wire."""

    def __init__(self, wire: NatsWire, ns: str, shard: str) -> None:
        self._wire = wire
        self._ns = ns
        self._shard = shard
        self._stream = log_stream(shard)
        self._in_flight: deque[_InFlight] = deque()
        self._settling = False
        self._sweep: asyncio.TimerHandle | None = None
        #: On the loop's clock: when the next sweep should run.
        self._sweep_at_s = 0.0
        #: Names this writer in gates; empty until the first.
        self._writer = ""
        self._gates = count(1)

    # -- appending

    def gate(self, receiver: str) -> Gate:
        """Return a new gate for `receiver`; see `EventLog.gate`."""
        if not self._writer:
            self._writer = os.urandom(6).hex()
            self._wire.hear_replies(
                ack_subject(self._ns, self._shard, "*.*", self._writer, "*"),
            )
        number = str(next(self._gates))
        subject = ack_subject(self._ns, self._shard, receiver, self._writer, number)
        return Gate(f"{self._writer}.{number}", subject)

    def append(
        self,
        key: str,
        payload: bytes,
        expected_seq: int,
        sink: AppendSink,
        *,
        gate: Gate | None = None,
    ) -> None:
        """Send one record; see `EventLog.append`."""
        if len(payload) > MESSAGE_BYTES_MAX:
            raise PayloadTooLargeError(self._stream, len(payload), MESSAGE_BYTES_MAX)
        loop = asyncio.get_running_loop()
        append = _InFlight(expected_seq, sink, loop.time() + APPEND_DEADLINE_S - SWEEP_INTERVAL_S)
        append.reply = self._wire.await_reply(
            lambda message: self._answered(append, message), gate.subject if gate else ""
        )
        self._in_flight.append(append)
        sent = self._wire.publish(
            log_subject(self._ns, self._shard, key),
            payload,
            reply=append.reply,
            head=_EXPECTED_HEAD % expected_seq,
        )
        if not sent:
            append.result = AppendUnclear(expected_seq, "not connected")
            loop.call_soon(self._settle)
        elif self._sweep is None:
            self._sweep_later(loop)

    def _answered(self, append: _InFlight, message: Message | None) -> None:
        if append.result is None:
            append.result = _result_of(append.expected_seq, message)
        self._settle()

    def _settle(self) -> None:
        """Call the sinks of all that is answered and has no unanswered predecessor."""
        if self._settling:
            return
        self._settling = True
        try:
            in_flight = self._in_flight
            while in_flight and (result := in_flight[0].result) is not None:
                append = in_flight.popleft()
                self._wire.forget(append.reply)
                try:
                    append.sink(result)
                except Exception:  # one sink's bug must not cost another its result
                    _logger.exception("append_sink_failed", extra={"stream": self._stream})
        finally:
            self._settling = False

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweep_at_s = loop.time() + SWEEP_INTERVAL_S
        self._sweep = loop.call_at(self._sweep_at_s, self._sweep_overdue)

    def _sweep_overdue(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        # After a pause of our own process the answers may lie ready and unread: they go first.
        if now_s - self._sweep_at_s < SWEEP_INTERVAL_S:
            self._give_up_before(now_s)
        if self._in_flight:
            self._sweep_later(loop)
        else:
            self._sweep = None

    def _give_up_before(self, now_s: float) -> None:
        for append in self._in_flight:
            if append.due_s > now_s:
                break
            if append.result is None:
                why = f"no acknowledgement within {APPEND_DEADLINE_S:g} s"
                append.result = AppendUnclear(append.expected_seq, why)
        self._settle()

    # -- reading

    async def last(self) -> LogEntry | None:
        """Return the last record as the stream's leader knows it; see `EventLog.last`.

        A last record whose content was purged has an empty key and payload.
        """
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                seq = await last_sequence(self._wire, self._stream)
                if seq == 0:
                    return None
                stored = await get_message(self._wire, self._stream, seq=seq)
        except TimeoutError as exc:
            raise LogUnavailableError(self._stream) from exc
        return LogEntry(seq, "", b"") if stored is None else stored.entry

    async def read(
        self, after_seq: int, *, key: str | None = None, records_max: int = 1000
    ) -> Sequence[LogEntry]:
        """Return records past `after_seq`; see `EventLog.read`."""
        subject = None if key is None else log_subject(self._ns, self._shard, key)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + READ_DEADLINE_S
        while True:
            try:
                return await read_batch(
                    self._wire,
                    self._stream,
                    after_seq=after_seq,
                    records_max=records_max,
                    subject=subject,
                )
            except LogUnavailableError:
                # A server that restarts is back well within the deadline; a read is harmless.
                if loop.time() + READ_AGAIN_S >= end_s:
                    raise
                await asyncio.sleep(READ_AGAIN_S)

    async def follow(self, after_seq: int, *, key: str | None = None) -> AsyncIterator[LogEntry]:
        """Yield every record past `after_seq`, for ever; see `EventLog.follow`."""
        feed = _Feed(key)
        subject = stored_subject(self._ns, self._shard, "*" if key is None else key)
        end = self._wire.tap(subject, feed.take)
        end_distrust = self._wire.on_reconnect(feed.distrust)
        seq = after_seq
        try:
            while True:
                if feed.behind:
                    feed.behind = False
                    try:
                        entries = await self.read(seq, key=key, records_max=FOLLOW_BATCH)
                    except LogUnavailableError:
                        feed.behind = True
                        await asyncio.sleep(FOLLOW_RETRY_S)
                        continue
                    for entry in entries:
                        seq = entry.seq
                        yield entry
                    # Full or not: only an empty answer says that all is read.
                    feed.behind = feed.behind or bool(entries)
                    continue
                entry_or_none = feed.next_after(seq)
                if entry_or_none is not None:
                    seq = entry_or_none.seq
                    yield entry_or_none
                elif not feed.behind:
                    await feed.wait()
        finally:
            end()
            end_distrust()


class _Feed:
    """What the server repeats as it stores it: quick, and not trusted to be complete."""

    def __init__(self, key: str | None) -> None:
        self._dense = key is None
        #: Record, and the sequence that must have been seen before it.
        self._entries: deque[tuple[LogEntry, int]] = deque()
        self._news = asyncio.Event()
        #: The follower must read the stream before it goes on with the feed.
        self.behind = True

    def take(self, message: Message) -> None:
        """Take one republished message."""
        headers = message.headers()
        try:
            entry = entry_of(message, headers)
            before = entry.seq - 1 if self._dense else int(headers["Nats-Last-Sequence"])
        except (KeyError, ValueError):
            self.distrust()
            return
        if len(self._entries) >= FEED_MAX:
            self._entries.clear()
            self.behind = True
        self._entries.append((entry, before))
        self._news.set()

    def distrust(self) -> None:
        """Have the follower read again."""
        self.behind = True
        self._news.set()

    def next_after(self, seq: int) -> LogEntry | None:
        """Return the record that follows `seq`, or None; a gap makes the feed `behind`."""
        while self._entries:
            entry, before = self._entries[0]
            if entry.seq > seq:
                if before > seq:
                    # What is stored, the read brings; what is not was never true.
                    self._entries.clear()
                    self.behind = True
                    return None
                self._entries.popleft()
                return entry
            self._entries.popleft()
        return None

    async def wait(self) -> None:
        """Wait for news; after `RESYNC_INTERVAL_S` without any, be behind."""
        self._news.clear()
        if self._entries or self.behind:
            return
        try:
            async with asyncio.timeout(RESYNC_INTERVAL_S):
                await self._news.wait()
        except TimeoutError:
            self.behind = True


def _result_of(expected_seq: int, message: Message | None) -> AppendResult:
    if message is None:
        return AppendUnclear(expected_seq, "connection lost")
    ack = read_ack(message)
    if isinstance(ack, str):
        return AppendUnclear(expected_seq, ack)
    return _result_of_ack(expected_seq, ack)


def _result_of_ack(expected_seq: int, ack: PubAck) -> AppendResult:
    error = ack.error
    if error is None:
        if ack.seq == expected_seq + 1:
            return Appended(ack.seq)
        return AppendUnclear(expected_seq, f"acknowledged as {ack.seq}")
    if error.err_code in WRONG_LAST_SEQUENCE:
        return AppendRefused(expected_seq)
    if error.is_full:
        return StoreFull(expected_seq)
    return AppendUnclear(expected_seq, f"{error.description} ({error.err_code})")
