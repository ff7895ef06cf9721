"""`EventLog` in memory: for tests, simulation, and `mode="local"`."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from typing import Final

from millstream_events.codec import MESSAGE_BYTES_MAX
from millstream_events.errors import LogUnavailableError, PayloadTooLargeError
from millstream_events.gates import Gate
from millstream_events.memory_bus import MemorySwitch
from millstream_events.memory_faults import AppendFault, FaultPlan
from millstream_events.ports import (
    APPEND_DEADLINE_S,
    Appended,
    AppendRefused,
    AppendResult,
    AppendSink,
    AppendUnclear,
    LogEntry,
    StoreFull,
)
from millstream_events.subjects import DEFAULT_NAMESPACE, ack_subject

#: Bytes that one read returns at most.
READ_BYTES_MAX: Final = 8 * 1024 * 1024
#: Pause before a follower reads again after a failure.
FOLLOW_RETRY_S: Final = 0.05


class MemoryRecords:
    """What one log holds; shared by the `MemoryLog` of every connection."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        #: By sequence - 1; None where a record was purged.
        self._entries: list[LogEntry | None] = []
        self._news: set[asyncio.Event] = set()

    @property
    def last_seq(self) -> int:
        """Sequence of the last record, purged or not; 0 for none."""
        return len(self._entries)

    def entry(self, seq: int) -> LogEntry | None:
        """Return the record at `seq`, or None if it was purged."""
        return self._entries[seq - 1]

    def add(self, key: str, payload: bytes) -> int:
        """Store a record, whatever fence there may be; return its sequence."""
        seq = len(self._entries) + 1
        self._entries.append(LogEntry(seq, key, payload, self._now_ns()))
        for news in self._news:
            news.set()
        return seq

    def purge(self, seq: int) -> None:
        """Take the record at `seq` away, leaving a gap."""
        self._entries[seq - 1] = None

    def replace(self, seq: int, payload: bytes) -> None:
        """Put other bytes into the record at `seq`, as a failing disk does."""
        entry = self._entries[seq - 1]
        assert entry is not None, seq
        self._entries[seq - 1] = LogEntry(seq, entry.key, payload, entry.stored_ns)

    def read(self, after_seq: int, key: str | None, records_max: int) -> list[LogEntry]:
        """Return records past `after_seq`, oldest first."""
        found: list[LogEntry] = []
        size_bytes = 0
        for at in range(max(after_seq, 0), len(self._entries)):
            entry = self._entries[at]
            if entry is None or (key is not None and entry.key != key):
                continue
            size_bytes += len(entry.payload)
            if found and size_bytes > READ_BYTES_MAX:
                break
            found.append(entry)
            if len(found) >= records_max:
                break
        return found

    def listen(self) -> asyncio.Event:
        """Return an event that each new record sets, until `deafen`."""
        news = asyncio.Event()
        self._news.add(news)
        return news

    def deafen(self, news: asyncio.Event) -> None:
        """Set `news` no longer."""
        self._news.discard(news)


class _InFlight:
    """One append on its way there or back."""

    __slots__ = ("expected_seq", "fault", "gate", "key", "payload", "result", "sink")

    def __init__(
        self,
        key: str,
        payload: bytes,
        expected_seq: int,
        sink: AppendSink,
        fault: AppendFault | None,
        gate: Gate | None,
    ) -> None:
        self.gate = gate
        self.key = key
        self.payload = payload
        self.expected_seq = expected_seq
        self.sink = sink
        self.fault = fault
        self.result: AppendResult | None = None


class MemoryLog:
    """`EventLog` on shared records, over a connection that may be cut."""

    def __init__(
        self,
        records: MemoryRecords,
        plan: FaultPlan | None = None,
        *,
        switch: MemorySwitch | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        shard: str = "",
    ) -> None:
        """Reach `records`.

        Args:
            records: What the log holds.
            plan: What goes wrong on the way.
            switch: Carries acknowledgements to the receivers of gates; without it there are none.
            namespace: The installation.
            shard: Whose log it is.
        """
        self.records = records
        self._plan = plan or FaultPlan()
        self._switch = switch
        self._place = namespace, shard
        self._gates = count(1)
        self._in_flight: deque[_InFlight] = deque()
        #: While true, the store has no room.
        self.full = False
        #: While false, nothing arrives and nothing can be read.
        self.connected = True

    def gate(self, receiver: str) -> Gate | None:
        """Return a new gate for `receiver`; see `EventLog.gate`."""
        if self._switch is None:
            return None
        writer, number = f"{id(self):x}", str(next(self._gates))
        return Gate(f"{writer}.{number}", ack_subject(*self._place, receiver, writer, number))

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
            raise PayloadTooLargeError(key, len(payload), MESSAGE_BYTES_MAX)
        append = _InFlight(key, payload, expected_seq, sink, self._plan.next_append(), gate)
        self._in_flight.append(append)
        loop = asyncio.get_running_loop()
        if self.connected:
            loop.call_soon(self._arrive, append)
        else:
            self._answer(append, AppendUnclear(expected_seq, "not connected"))

    def cut(self) -> None:
        """Cut the connection for a moment: what is in flight is unclear."""
        for append in self._in_flight:
            if append.result is None:
                append.result = AppendUnclear(append.expected_seq, "connection lost")
        asyncio.get_running_loop().call_soon(self._settle)

    async def last(self) -> LogEntry | None:
        """Return the last record; one that was purged has an empty key and payload."""
        await self._reach()
        seq = self.records.last_seq
        if seq == 0:
            return None
        return self.records.entry(seq) or LogEntry(seq, "", b"")

    async def read(
        self, after_seq: int, *, key: str | None = None, records_max: int = 1000
    ) -> Sequence[LogEntry]:
        """Return records past `after_seq`; see `EventLog.read`."""
        await self._reach()
        return self.records.read(after_seq, key, records_max)

    async def follow(self, after_seq: int, *, key: str | None = None) -> AsyncIterator[LogEntry]:
        """Yield every record past `after_seq`, for ever; see `EventLog.follow`."""
        news = self.records.listen()
        seq = after_seq
        try:
            while True:
                news.clear()
                try:
                    entries = await self.read(seq, key=key)
                except LogUnavailableError:
                    await asyncio.sleep(FOLLOW_RETRY_S)
                    continue
                for entry in entries:
                    seq = entry.seq
                    yield entry
                if not entries:
                    await news.wait()
        finally:
            self.records.deafen(news)

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if not self.connected:
            raise LogUnavailableError("memory", "not connected")
        if self._plan.next_read_fails():
            raise LogUnavailableError("memory", "planned")

    def _arrive(self, append: _InFlight) -> None:
        """Do what a server does with an append, and what the network does with its answer."""
        if append.result is not None:
            # The connection was cut on the way.
            return
        fault = append.fault
        loop = asyncio.get_running_loop()
        if fault in (AppendFault.CUT_BEFORE, AppendFault.REQUEST_LOST, AppendFault.GHOST):
            if fault is AppendFault.CUT_BEFORE:
                self.cut()
                return
            if fault is AppendFault.GHOST:
                loop.call_later(APPEND_DEADLINE_S + self._plan.delay_s, self._store, append)
            self._unclear_later(append)
            return
        answer = self._store(append)
        if append.gate is not None and self._switch is not None:
            seq = answer.seq if isinstance(answer, Appended) else 0
            self._switch.deliver(append.gate.subject, b'{"seq":%d}' % seq)
        if not isinstance(answer, Appended):
            self._answer(append, answer)
        elif fault is AppendFault.CUT_AFTER:
            self.cut()
        elif fault is AppendFault.ACK_LOST:
            self._unclear_later(append)
        elif fault is AppendFault.ACK_LATE:
            loop.call_later(self._plan.delay_s, self._answer, append, answer)
        elif fault is AppendFault.REFUSED_THOUGH_STORED:
            self._answer(append, AppendRefused(append.expected_seq))
        elif fault is AppendFault.DUPLICATE:
            self._answer(append, AppendUnclear(append.expected_seq, "duplicate"))
        else:
            self._answer(append, answer)

    def _store(self, append: _InFlight) -> AppendResult:
        if self.full or append.fault is AppendFault.FULL:
            return StoreFull(append.expected_seq)
        if self.records.last_seq != append.expected_seq:
            return AppendRefused(append.expected_seq)
        return Appended(self.records.add(append.key, append.payload))

    def _unclear_later(self, append: _InFlight) -> None:
        unclear = AppendUnclear(append.expected_seq, "no acknowledgement")
        asyncio.get_running_loop().call_later(APPEND_DEADLINE_S, self._answer, append, unclear)

    def _answer(self, append: _InFlight, result: AppendResult) -> None:
        if append.result is None:
            append.result = result
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        """Call the sinks of all that is answered and has no unanswered predecessor."""
        in_flight = self._in_flight
        if not in_flight:
            return
        append = in_flight[0]
        result = append.result
        if result is None:
            return
        in_flight.popleft()
        if in_flight and in_flight[0].result is not None:
            # One sink a turn: what one raises, the loop reports, and the next still comes.
            asyncio.get_running_loop().call_soon(self._settle)
        append.sink(result)
