"""Runs as the log alone tells them: no leader is asked, and none need be alive.

Everything here folds with the leader's own `millstream_events.fold`, so what is shown is what
a leader would decide from.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, NamedTuple

import msgspec

from millstream_events.codec import OpaqueFrame, decode_frame
from millstream_events.errors import LogCorruptError
from millstream_events.fold import apply, fold_entry
from millstream_events.ids import is_run_id
from millstream_events.model import Frame, RunCreated
from millstream_events.ports import EventLog, LogEntry
from millstream_events.state import RunState, ShardState
from millstream_events.subjects import SHARD_KEY

#: Records asked for with one read.
PAGE_RECORDS_MAX: Final = 1000


class At(msgspec.Struct, frozen=True):
    """A moment in a run's history: the last revision, or the last time, that counts."""

    rev: int | None = None
    #: Unix ns, by the leader's clock; a frame counts as a whole.
    ts_ns: int | None = None


class RunHistory(NamedTuple):
    """One run, folded, and the records that it was folded from."""

    state: RunState
    entries: list[LogEntry]
    shard: ShardState


class Step(NamedTuple):
    """A run after one more record."""

    entry: LogEntry
    frame: Frame | OpaqueFrame
    run: RunState


async def read_entries(
    log: EventLog, *, key: str | None = None, after_seq: int = 0
) -> AsyncIterator[LogEntry]:
    """Yield every record that is there now, oldest first.

    Raises:
        LogUnavailableError: As `EventLog.read`.
    """
    while page := await log.read(after_seq, key=key, records_max=PAGE_RECORDS_MAX):
        for entry in page:
            yield entry
        after_seq = page[-1].seq


async def read_run(log: EventLog, run: str, *, at: At | None = None) -> RunHistory | None:
    """Return `run` as it is, or as it was `at` a moment; None if the log does not know it.

    Raises:
        LogUnavailableError: As `EventLog.read`.
    """
    shard = ShardState(run[:4])
    entries: list[LogEntry] = []
    async for entry in read_entries(log, key=run):
        if at is not None and not _counts(shard, entry, at):
            break
        fold_entry(shard, entry)
        entries.append(entry)
    state = shard.runs.get(run)
    return None if state is None else RunHistory(state, entries, shard)


def _counts(shard: ShardState, entry: LogEntry, at: At) -> bool:
    """Say whether the whole record lies before the moment; fold the part of it that does."""
    try:
        frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
    except LogCorruptError:
        return True  # The fold quarantines the run for it.
    if at.ts_ns is not None and frame.ts_ns > at.ts_ns:
        return False
    if at.rev is None or frame.rev + len(frame.events) - 1 <= at.rev:
        return True
    state = shard.runs.get(entry.key)
    if isinstance(frame, Frame) and frame.rev <= at.rev:
        if state is None:
            state = shard.runs[entry.key] = RunState(entry.key)
        if frame.rev == state.rev + 1 and not state.quarantine:
            for event in frame.events[: at.rev - frame.rev + 1]:
                apply(shard, state, event, frame.ts_ns)
    return False


async def follow_run(log: EventLog, run: str) -> AsyncGenerator[Step, None]:
    """Yield `run` after each record, those that are there first; ends when the run is over.

    The state is one object that goes on changing: read it before the next step.

    Raises:
        LogUnavailableError: As `EventLog.follow`.
    """
    shard = ShardState(run[:4])
    entries = log.follow(0, key=run)
    try:
        async for entry in entries:
            fold_entry(shard, entry)
            state = shard.runs[run]
            try:
                frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
            except LogCorruptError:
                continue
            yield Step(entry, frame, state)
            if state.finished:
                return
    finally:
        # Ports promise an iterator that can be closed; the protocol's type does not say so.
        close = getattr(entries, "aclose", None)
        if close is not None:
            await close()


async def list_runs(log: EventLog) -> list[RunState]:
    """Return every run of the log, oldest first; of a run that is over only the root action.

    Raises:
        LogUnavailableError: As `EventLog.read`.
    """
    return list((await read_shard(log)).runs.values())


async def read_shard(log: EventLog) -> ShardState:
    """Return the whole shard, with the actions below the root of finished runs let go.

    Raises:
        LogUnavailableError: As `EventLog.read`.
    """
    shard = ShardState("")
    async for entry in read_entries(log):
        shard.shard = shard.shard or entry.key[:4].replace(SHARD_KEY, "")
        fold_entry(shard, entry)
        run = shard.runs.get(entry.key)
        if run is not None and run.finished and len(run.actions) > 1:
            del run.actions[1:]
            run.ordinals = {}
    return shard


async def resolve_run(log: EventLog, name: str, project: str) -> str | None:
    """Return the id of the run that has the alias `name` in `project`, or that is `name`.

    None if there is no such run.

    Raises:
        LogUnavailableError: As `EventLog.read`.
    """
    if is_run_id(name):
        page = await log.read(0, key=name, records_max=1)
        return name if page else None
    async for entry in read_entries(log):
        if entry.key == SHARD_KEY:
            continue
        try:
            frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
        except LogCorruptError:
            continue
        first = frame.events[0] if isinstance(frame, Frame) and frame.rev == 1 else None
        if isinstance(first, RunCreated) and (first.name, first.project) == (name, project):
            return entry.key
    return None


async def read_birth(log: EventLog, run: str) -> RunCreated | None:
    """Return what `run` was asked for with; None if the log does not know it, or cannot tell.

    Raises:
        LogUnavailableError: As `EventLog.read`.
    """
    for entry in await log.read(0, key=run, records_max=1):
        try:
            frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
        except LogCorruptError:
            return None
        first = frame.events[0] if frame.events else None
        return first if isinstance(first, RunCreated) else None
    return None
