"""Reads the runs that others recover, so that the leader's core finds them in its memory.

A leader lets go of the actions of finished runs; the log still has them. So the command that
names a source waits here until it has been read, and is heard with it in one tick.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from millstream_events.codec import decode_frame
from millstream_events.errors import LogCorruptError, LogUnavailableError
from millstream_events.fold import fold_entry
from millstream_events.logs import get_logger
from millstream_events.ports import EventLog
from millstream_events.state import RunState, ShardState
from millstream_scheduler.sources import CHAIN_RUNS_MAX, NoSource, Reading, Source, reuses

log = get_logger("scheduler")

#: Sources that are read at the same time; further ones are refused for the moment.
READS_MAX: Final = 16
#: Events that are folded before other work of the loop gets its turn: some milliseconds.
_EVENTS_AT_ONCE: Final = 512


async def read_source(event_log: EventLog, run: str) -> Reading:
    """Return what `run`, and the runs that it recovers in turn, leave behind.

    Raises:
        LogUnavailableError: The log did not answer.
    """
    source = Source(run)
    while source.wanted:
        if len(source.runs) >= CHAIN_RUNS_MAX:
            return NoSource(
                "invalid",
                f"run {run} is the last of more than {CHAIN_RUNS_MAX} recoveries of each other; "
                f"rerun it without recovery",
            )
        state = await _read_run(event_log, source.wanted)
        if state is None:
            if source.runs:
                # What is left of the chain is still worth having; ids cannot lie.
                log.warning("source_missing", run=source.runs[-1], source=source.wanted)
                source.wanted = ""
                continue
            return NoSource("no-such-run", f"no run {run} to recover from")
        if state.quarantine:
            return NoSource("suspect-run", f"run {state.id}: {state.quarantine}")
        if not state.finished:
            # What it leaves is not settled yet, and both would do the same work at once.
            return NoSource("invalid", f"run {state.id} is not over; wait for its end or abort it")
        source.add(state)
    return source


async def read_sources(event_log: EventLog, state: ShardState) -> dict[str, Source]:
    """Return the sources of all open runs, for a leader that takes over.

    One read for each distinct source.

    Raises:
        LogUnavailableError: The log did not answer.
    """
    wanted = {
        run.origin.run: run.id
        for run in state.runs.values()
        if run.decidable and run.origin is not None and reuses(run.origin)
    }
    sources: dict[str, Source] = {}
    for source_id, run_id in wanted.items():
        reading = await read_source(event_log, source_id)
        if isinstance(reading, Source):
            sources[source_id] = reading
        else:
            # The run was accepted once; now it goes on without taking over any more.
            log.warning("source_lost", run=run_id, source=source_id, why=reading.reason)
    return sources


async def _read_run(event_log: EventLog, run: str) -> RunState | None:
    shard = ShardState(run[:4])
    after_seq = 0
    folded = 0
    while entries := await event_log.read(after_seq, key=run):
        for entry in entries:
            fold_entry(shard, entry)
            folded += _events_of(entry.payload, entry.key, entry.seq)
            if folded >= _EVENTS_AT_ONCE:
                folded = 0
                await asyncio.sleep(0)
        after_seq = entries[-1].seq
    return shard.runs.get(run)


def _events_of(payload: bytes, key: str, seq: int) -> int:
    try:
        return len(decode_frame(payload, key=key, seq=seq).events)
    except LogCorruptError:
        return 1


class SourceReader:
    """Reads sources one task each, and says when each has been read."""

    def __init__(self, event_log: EventLog, on_read: Callable[[str, Reading | None], None]) -> None:
        """Start with nothing to read.

        Args:
            event_log: The shard's log.
            on_read: Called once for each source, with None when the log did not answer.
        """
        self._log = event_log
        self._on_read = on_read
        self._reads: dict[str, asyncio.Task[None]] = {}

    def begin(self, run: str) -> bool:
        """Read the source `run`, unless that is on its way; False: too many are being read."""
        if run in self._reads:
            return True
        if len(self._reads) >= READS_MAX:
            return False
        self._reads[run] = asyncio.create_task(self._read(run), name=f"source-{run}")
        return True

    def stop(self) -> None:
        """Read nothing any more, and call nobody."""
        for read in self._reads.values():
            read.cancel()
        self._reads = {}

    async def _read(self, run: str) -> None:
        reading: Reading | None = None
        try:
            reading = await read_source(self._log, run)
        except LogUnavailableError as exc:
            log.warning("source_unread", source=run, why=str(exc))
        self._reads.pop(run, None)
        self._on_read(run, reading)
