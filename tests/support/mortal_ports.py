"""Ports that die with their leader, at any step of its life."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from millstream_events.gates import Gate
from millstream_events.memory import MemoryConnection
from millstream_events.memory_log import MemoryLog
from millstream_events.ports import Appended, AppendResult, AppendSink, LogEntry


class Fuse:
    """Blows at step `at` of a leader's life, and with it the leader's ports."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.steps = 0
        self.blown = asyncio.Event()

    def step(self) -> bool:
        """Count one step; say whether the leader is still alive."""
        self.steps += 1
        if self.steps == self.at:
            self.blown.set()
        return not self.blown.is_set()


class MortalLog:
    """`EventLog` that dies with its leader, and can hold acknowledgements back."""

    def __init__(self, log: MemoryLog, fuse: Fuse) -> None:
        self.log = log
        self.fuse = fuse
        self.hold = False
        self.held: list[Callable[[], None]] = []
        #: Appends stay where a stopped process leaves them: in its socket's buffer.
        self.stall = False
        self.stalled: list[Callable[[], None]] = []
        self.appends = 0
        #: Up to here the leader has been told that the log is durable.
        self.told_seq = log.records.last_seq

    def gate(self, receiver: str) -> Gate | None:
        # An acknowledgement that is held back is held back from everybody.
        return None if self.hold or self.stall else self.log.gate(receiver)

    def append(
        self,
        key: str,
        payload: bytes,
        expected_seq: int,
        sink: AppendSink,
        *,
        gate: Gate | None = None,
    ) -> None:
        def answer(result: AppendResult) -> None:
            if not self.fuse.step():
                return
            if isinstance(result, Appended):
                self.told_seq = max(self.told_seq, result.seq)
            sink(result)

        def hear(result: AppendResult) -> None:
            if self.hold:
                self.held.append(lambda: answer(result))
            else:
                answer(result)

        if self.fuse.step():
            self.appends += 1
            if self.stall:
                self.stalled.append(lambda: self.log.append(key, payload, expected_seq, hear))
            else:
                self.log.append(key, payload, expected_seq, hear, gate=gate)

    def resume(self) -> None:
        """Send what was stalled."""
        self.stall = False
        stalled, self.stalled = self.stalled, []
        for each in stalled:
            each()

    def let_go(self) -> None:
        """Deliver what was held back."""
        self.hold = False
        held, self.held = self.held, []
        for each in held:
            each()

    async def last(self) -> LogEntry | None:
        last = await self.log.last()
        self.told_seq = max(self.told_seq, 0 if last is None else last.seq)
        return last

    async def read(
        self, after_seq: int, *, key: str | None = None, records_max: int = 1000
    ) -> Sequence[LogEntry]:
        return await self.log.read(after_seq, key=key, records_max=records_max)

    def follow(self, after_seq: int, *, key: str | None = None) -> AsyncIterator[LogEntry]:
        return self.log.follow(after_seq, key=key)


class MortalBus:
    """`Bus` that dies with its leader, and shows each message before it goes out."""

    def __init__(
        self, connection: MemoryConnection, fuse: Fuse, inspect: Callable[[str, bytes], None]
    ) -> None:
        self.bus = connection.bus
        self.fuse = fuse
        self.inspect = inspect

    @property
    def connected(self) -> bool:
        return not self.fuse.blown.is_set()

    def publish(self, subject: str, payload: bytes) -> None:
        if self.fuse.step():
            self.inspect(subject, payload)
            self.bus.publish(subject, payload)

    def flush(self) -> None: ...

    def subscribe(self, subject: str, sink: Callable[[str, bytes], None]) -> Callable[[], None]:
        def hear(heard: str, payload: bytes) -> None:
            if not self.fuse.blown.is_set():
                sink(heard, payload)

        return self.bus.subscribe(subject, hear)

    def on_reconnect(self, sink: Callable[[], None]) -> Callable[[], None]:
        return self.bus.on_reconnect(sink)
