"""What the core needs from outside, as the side that calls it sees it.

Every port has an adapter in memory and one on NATS; `tests/contract` holds one suite for each
port that both must pass. Waits are bounded: the deadlines below are part of the contract.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from millstream_events.gates import Gate
from millstream_events.ids import Digest

#: Longest that any read of a log may take before `LogUnavailableError`, and longest that a
#: `follow` may stay blind after a server restart.
READ_DEADLINE_S: Final = 3.0
#: An append without an answer for this long is unclear.
APPEND_DEADLINE_S: Final = 2.0

#: What an acknowledged append survives: `process`, kill -9 of every process; `interval`, an OS
#: crash but for the last second; `disk`, an OS crash; `replicated`, the loss of a node.
Durability: TypeAlias = Literal["process", "interval", "disk", "replicated"]


class LogEntry(msgspec.Struct, frozen=True):
    """One stored message."""

    seq: int
    #: Run id, or `subjects.SHARD_KEY`.
    key: str
    payload: bytes
    #: When the server stored it, Unix ns; for people, never for order.
    stored_ns: int = 0


class Appended(msgspec.Struct, frozen=True, tag=True):
    """The record is durable, at this sequence."""

    seq: int


class AppendRefused(msgspec.Struct, frozen=True, tag=True):
    """The log's last sequence is not the expected one. Read again before anything is sent."""

    expected_seq: int


class AppendUnclear(msgspec.Struct, frozen=True, tag=True):
    """Nothing is known: the record may be there or not. Read again before anything is sent."""

    expected_seq: int
    why: str


class StoreFull(msgspec.Struct, frozen=True, tag=True):
    """The store has no room; the record is not there."""

    expected_seq: int


AppendResult: TypeAlias = Appended | AppendRefused | AppendUnclear | StoreFull
AppendSink: TypeAlias = Callable[[AppendResult], None]


class EventLog(Protocol):
    """An append-only sequence of records, fenced by the predicted sequence."""

    def gate(self, receiver: str) -> Gate | None:
        """Return a new gate that `receiver` hears of too; None: this log tells its writer only.

        Args:
            receiver: As in `subjects.ack_subject`.
        """
        ...

    def append(
        self,
        key: str,
        payload: bytes,
        expected_seq: int,
        sink: AppendSink,
        *,
        gate: Gate | None = None,
    ) -> None:
        """Send one record, to be stored only if the log's last sequence is `expected_seq`.

        With a `gate` the log's acknowledgement goes to the gate's receiver as well; each gate
        is for one append.

        Returns at once; several may be in flight, each expecting the sequence that its
        predecessor will get, so what lands is always a prefix of what was sent. `sink` is
        called exactly once, in order, within `APPEND_DEADLINE_S`; when the connection breaks,
        for everything in flight, with `AppendUnclear`.

        Raises:
            PayloadTooLargeError: Over `codec.MESSAGE_BYTES_MAX`; nothing was sent.
        """
        ...

    async def last(self) -> LogEntry | None:
        """Return the last record, as the stream *leader* knows it; None for an empty log.

        Raises:
            LogUnavailableError: No answer within `READ_DEADLINE_S`.
        """
        ...

    async def read(
        self, after_seq: int, *, key: str | None = None, records_max: int = 1000
    ) -> Sequence[LogEntry]:
        """Return up to `records_max` records past `after_seq`, oldest first; empty at the end.

        Each call stands alone (no consumer that could go blind). Bounded by 8 MiB as well.

        Raises:
            LogUnavailableError: No answer within `READ_DEADLINE_S`.
        """
        ...

    def follow(self, after_seq: int, *, key: str | None = None) -> AsyncIterator[LogEntry]:
        """Yield every record past `after_seq`, then each new one as it is stored, for ever.

        Never skips and never repeats. After a lost connection it goes on within
        `READ_DEADLINE_S` of the server's return. Close the iterator to stop (`aclosing`).
        """
        ...


class Bus(Protocol):
    """Core NATS: at most once, in order for each sender, nothing stored."""

    def publish(self, subject: str, payload: bytes) -> None:
        """Send now, without waiting. While disconnected the message is dropped and counted.

        Dropping is right: senders repeat what is unanswered, and a late dispatch would lie.

        Raises:
            PayloadTooLargeError: Over `codec.MESSAGE_BYTES_MAX`; nothing was sent.
        """
        ...

    def flush(self) -> None:
        """Write what was published in this turn of the loop now, in one piece.

        It goes by itself at the end of the turn; a loop that knows that it has said all saves
        a turn.
        """
        ...

    def subscribe(self, subject: str, sink: Callable[[str, bytes], None]) -> Callable[[], None]:
        """Call `sink(subject, payload)` for each message, in the event loop, and never twice.

        An exception of `sink` is logged and counted; it does not stop the subscription.
        Survives reconnects. Returns the call that ends it.
        """
        ...

    def on_reconnect(self, sink: Callable[[], None]) -> Callable[[], None]:
        """Call `sink` after each re-established connection: messages may have been lost.

        Returns the call that ends it.
        """
        ...

    @property
    def connected(self) -> bool:
        """Whether a message published now would reach the server, as far as is known."""
        ...


class LeaseStore(Protocol):
    """Compare-and-set on small values; for liveness only, safety is the log's fence."""

    async def read(self, key: str) -> tuple[bytes, int] | None:
        """Return value and revision, or None when there is none.

        Raises:
            LogUnavailableError: No answer within `READ_DEADLINE_S`.
        """
        ...

    async def write(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value at `revision` (0: there must be none); return the new revision.

        Raises:
            StaleWriterError: The revision is another one.
            LogUnavailableError: No answer within `READ_DEADLINE_S`; the write is unclear.
        """
        ...

    async def delete(self, key: str, revision: int) -> None:
        """Remove the value if it is at `revision`; otherwise do nothing."""
        ...


class BlobStore(Protocol):
    """Values under the hash of their content, so writing twice is harmless."""

    async def put(self, content: bytes) -> Digest:
        """Store `content` durably and return its digest.

        Raises:
            LogFullError: No room; nothing was stored.
            LogUnavailableError: No answer within 30 s.
        """
        ...

    async def get(self, digest: Digest) -> bytes:
        """Return the content.

        Raises:
            BlobMissingError: Nobody put it (or its parts are not all there).
            BlobCorruptError: The content does not have this digest.
            LogUnavailableError: No answer within 30 s.
        """
        ...

    async def has(self, digest: Digest) -> bool:
        """Say whether `get` would find it."""
        ...


class OutputLine(msgspec.Struct, frozen=True, array_like=True):
    """One line that a task printed (or a part of one: lines are split at 64 KiB)."""

    ts_ns: int
    #: 1 stdout, 2 stderr.
    stream: int
    text: str
    attempt: int = 0
    #: Name of the worker process.
    worker: str = ""
    #: More than one action was live in the worker: this one is only a candidate.
    shared: bool = False
    #: Python level (`print`, logging) is told apart exactly; C level and children are not.
    native: bool = False


class OutputBatch(msgspec.Struct, frozen=True, array_like=True):
    """Lines of one action, oldest first."""

    run: str
    action: int
    lines: tuple[OutputLine, ...]
    #: Lines dropped before these because nobody took them in time.
    dropped: int = 0


class OutputStore(Protocol):
    """What tasks print: kept for days, best effort, never in the log."""

    def put(self, pool: str, batch: OutputBatch) -> None:
        """Send without waiting; dropped and counted when it cannot be taken."""
        ...

    async def read(
        self, run: str, *, action: int | None = None, after_seq: int = 0
    ) -> Sequence[tuple[int, OutputBatch]]:
        """Return batches with their sequence, oldest first; at most 1000 a call."""
        ...

    def follow(
        self, run: str, *, action: int | None = None, after_seq: int = 0
    ) -> AsyncIterator[tuple[int, OutputBatch]]:
        """Yield what is there, then what comes."""
        ...


class Clock(Protocol):
    """Time, as an argument."""

    def now_ns(self) -> int:
        """Return Unix time in ns. May jump."""
        ...

    def monotonic_ns(self) -> int:
        """Return a time that never goes back, in ns; for silences and leases."""
        ...


class Connected(Protocol):
    """One connection to an installation: `connect.Connection`, or `memory.MemoryConnection`."""

    @property
    def bus(self) -> Bus:
        """The bus of the installation."""
        ...

    @property
    def leases(self) -> LeaseStore:
        """Leases of the installation's shards."""
        ...

    @property
    def blobs(self) -> BlobStore:
        """Large values and bundles."""
        ...

    @property
    def outputs(self) -> OutputStore:
        """What tasks print."""
        ...

    @property
    def durability(self) -> Durability:
        """What an acknowledged append survives."""
        ...

    @property
    def server_version(self) -> str:
        """Version of the server; `memory` without one."""
        ...

    def event_log(self, shard_name: str) -> EventLog:
        """Return the log of one shard, named by region and shard such as `lo00`."""
        ...

    async def ensure_streams(self, shard_name: str) -> None:
        """Make what the shard's log and the other stores need, unless it is there.

        Raises:
            ConfigError: Something is there with settings that endanger what it holds.
            LogUnavailableError: No answer in time.
        """
        ...

    def on_closed(self, sink: Callable[[], None]) -> None:
        """Call `sink` once the connection is closed for good."""
        ...

    async def close(self) -> None:
        """Send what was published, then end the connection for good. May be called twice."""
        ...
