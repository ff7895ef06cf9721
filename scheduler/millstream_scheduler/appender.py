"""Frames on their way to the log: fenced, pipelined, and read back after any doubt.

A frame expects the sequence that its predecessor gets, so what lands is a prefix of what was
sent, as long as nobody else writes. When an append is refused, unclear or has no room, nothing
more is sent until the *stream leader* has said how far the log goes, and every record from our
first pending frame on has been compared. What landed is durable, the others are sent again with
the same expectations. A record that is not ours means that we have been deposed. There is no
partial undo and no blind retry (design: architecture.md 2.4).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from millstream_events.codec import decode_frame
from millstream_events.errors import LogCorruptError, LogUnavailableError
from millstream_events.gates import Gate
from millstream_events.logs import get_logger
from millstream_events.ports import Appended, AppendResult, EventLog, LogEntry, StoreFull
from millstream_events.seal import Sealed

log = get_logger("scheduler")

#: Between two looks at a log that does not answer, or has no room.
_RETRY_S: Final = 0.25


class Appender:
    """Sends the frames of one epoch and says what has become durable."""

    def __init__(
        self,
        event_log: EventLog,
        *,
        epoch: int,
        durable_seq: int,
        on_durable: Callable[[], None],
        on_doubt: Callable[[], None],
        on_deposed: Callable[[str], None],
    ) -> None:
        """Start behind `durable_seq`.

        Args:
            event_log: Where frames go.
            epoch: Of this leader.
            durable_seq: Everything up to here is durable.
            on_durable: Called when more has become durable.
            on_doubt: Called when the log has refused or not answered: what gates were to say
                of the frames in flight has to be said by the leader.
            on_deposed: Called with the reason when this leader has to stop.
        """
        self._log = event_log
        self._on_doubt = on_doubt
        self._epoch = epoch
        self._on_durable = on_durable
        self._on_deposed = on_deposed
        self._pending: deque[Sealed] = deque()
        #: Results of an older generation answer for sends that were given up.
        self._generation = 0
        self._resolving: asyncio.Task[None] | None = None
        self._stopped = False
        #: Everything up to here is known to be durable.
        self.durable_seq = durable_seq
        self.pending_bytes = 0
        #: The store has no room; frames are sent again until one of them is acknowledged.
        self.full = False

    @property
    def quiet(self) -> bool:
        """Whether nothing is unacknowledged."""
        return not self._pending

    @property
    def in_doubt(self) -> bool:
        """Whether the log has to say first what it holds; nothing new may be decided."""
        return self._resolving is not None or self.full

    def append(self, frames: Sequence[Sealed], gate: Gate | None = None) -> None:
        """Send `frames`; in doubt they wait for the log's word, and after `stop` for nothing.

        Args:
            frames: In order.
            gate: Of the only frame, when nothing else is in flight: an acknowledgement of what
                lies behind another frame would not say that the other one is ours.

        Raises:
            PayloadTooLargeError: One of them is over what a message may hold. What was decided
                can then never be recorded, so this leader must stop.
        """
        assert gate is None or (self.quiet and len(frames) == 1), len(self._pending)
        for frame in frames:
            self._pending.append(frame)
            self.pending_bytes += len(frame.payload)
            if self._resolving is None and not self._stopped:
                self._send(frame, gate)

    def stop(self) -> None:
        """Leave what is in flight to its fate, and send nothing more."""
        self._stopped = True
        self._generation += 1
        if self._resolving is not None:
            self._resolving.cancel()

    def _send(self, frame: Sealed, gate: Gate | None = None) -> None:
        generation = self._generation

        def sink(result: AppendResult) -> None:
            if generation == self._generation:
                self._on_result(result)

        self._log.append(frame.key, frame.payload, frame.expected_seq, sink, gate=gate)

    def _on_result(self, result: AppendResult) -> None:
        if isinstance(result, Appended):
            self.full = False
            self._settle(result.seq)
            self._on_durable()
            return
        self._generation += 1
        self.full = isinstance(result, StoreFull)
        self._on_doubt()
        log.warning("append_doubtful", result=type(result).__name__, pending=len(self._pending))
        self._resolving = asyncio.get_running_loop().create_task(self._resolve())
        self._resolving.add_done_callback(self._resolved)
        if self.full:
            self._on_durable()  # Nothing new is, but what waits for a tick can be refused.

    def _settle(self, seq: int) -> None:
        """Count every pending frame up to `seq` as durable."""
        while self._pending and self._pending[0].expected_seq < seq:
            self.pending_bytes -= len(self._pending.popleft().payload)
        self.durable_seq = max(self.durable_seq, seq)

    def _resolved(self, task: asyncio.Task[None]) -> None:
        # A leader whose appends wait for ever for a task that is dead would look alive.
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("append_failed", exc_info=failure)
            self._on_deposed(f"the log could not be read back: {failure}")

    async def _resolve(self) -> None:
        if self.full:
            await asyncio.sleep(_RETRY_S)
        while True:
            try:
                why = await self._read_back()
                break
            except LogUnavailableError:
                await asyncio.sleep(_RETRY_S)  # The lease ends this loop when it takes long.
        if why:
            self._on_deposed(why)
            return
        self._resolving = None
        self.full = self.full and not self.quiet
        for frame in tuple(self._pending):
            self._send(frame)
        self._on_durable()

    async def _read_back(self) -> str:
        """Settle what landed; return why we must stop, or nothing.

        Every record is compared, not the last alone: when another leader's election took the
        place of our first frame in flight, those behind it find the sequences that they expect,
        and land. They are void, and look like ours.
        """
        last = await self._log.last()
        goal = 0 if last is None else last.seq
        seq = self._pending[0].expected_seq if self._pending else self.durable_seq
        if goal < seq:
            return f"the log ends at {goal}, and {seq} was acknowledged"
        if last is not None and goal > seq and not last.payload:
            return f"the record at sequence {goal} was removed"
        while seq < goal:
            entries = await self._log.read(seq)
            if not entries:
                raise LogUnavailableError("log", f"nothing readable past {seq} of {goal}")
            for entry in entries:
                why = self._foreign(entry)
                if why:
                    return why
                seq = entry.seq
                self._settle(seq)
        return ""

    def _foreign(self, entry: LogEntry) -> str:
        """Say why a record is not the first of the pending frames; empty: it is."""
        head = self._pending[0] if self._pending else None
        if (
            head is not None
            and entry.seq == head.expected_seq + 1
            and entry.key == head.key
            and entry.payload == head.payload
        ):
            return ""
        try:
            frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
        except LogCorruptError as exc:
            return str(exc)
        if frame.epoch != self._epoch:
            return f"a frame of epoch {frame.epoch} is in the way of epoch {self._epoch}"
        return f"frame {frame.number} at sequence {entry.seq} is not ours"
