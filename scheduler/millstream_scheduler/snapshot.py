"""Snapshots: folded state in SQLite, so that a takeover replays only the log's tail.

An accelerator, never the truth: a file that is torn, of another version or does not hash to
what it says is thrown away and the log is folded from its beginning. Snapshots are made by a
process of their own (`python -m millstream_scheduler.snapshot`) from the last one and the log,
so making one costs the leader nothing and checks the fold on the way.
"""

import asyncio
import contextlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiosqlite
import msgspec

from millstream_events.codec import MALFORMED
from millstream_events.connect import connect
from millstream_events.ids import chain_hash
from millstream_events.logs import configure_logging, get_logger
from millstream_events.ports import EventLog
from millstream_events.sharing import share_decoded
from millstream_events.state import RunState, ShardState, state_hash
from millstream_events.subjects import SHARD_KEY
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.takeover import catch_up

log = get_logger("scheduler")

#: By how much a snapshot steps back: it gets a third of what others get of a busy CPU.
NICE: Final = 5
#: Events for each run and action that the state holds, before the next snapshot.
EVENTS_FOR_EACH: Final = 2
#: Changes whenever a field of the folded state is moved or retyped.
FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    format INTEGER NOT NULL, seq INTEGER NOT NULL, state_hash BLOB NOT NULL, shard BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS run (id TEXT PRIMARY KEY, rev INTEGER NOT NULL, state BLOB NOT NULL);
"""
_shard_decoder: Final = msgspec.msgpack.Decoder(ShardState)
_run_decoder: Final = msgspec.msgpack.Decoder(RunState)
_encoder: Final = msgspec.msgpack.Encoder()


def events_until_next(events_min: int, kept: int) -> int:
    """Return how many events are written before a snapshot is due again.

    Each one is read, hashed and written as a whole, so one after every so many events would
    cost a shard the more for an event, the more it holds.

    Args:
        events_min: So many at least.
        kept: Runs, and actions of open runs, that the state holds.
    """
    return max(events_min, EVENTS_FOR_EACH * kept)


def snapshot_path(data_dir: str, shard: str) -> Path:
    """Return where the shard's snapshot lies."""
    return Path(data_dir) / "snap" / f"{shard}.sqlite"


async def load(path: Path, shard: str) -> ShardState:
    """Return the snapshot's state, or an empty one when there is none that can be trusted."""
    # Anything but a file cannot be opened, and the thread of a connection that aiosqlite could
    # not open is not waited for: it may outlive the loop.
    if not await asyncio.to_thread(path.is_file):
        return ShardState(shard)
    try:
        state = await _read(path)
    except (sqlite3.Error, OSError, TypeError, ValueError, *MALFORMED) as exc:
        # A flipped byte may turn bytes into text or a number, or a size into nonsense.
        log.info("snapshot_unreadable", path=str(path), why=str(exc))
        state = None
    return ShardState(shard) if state is None or state.shard != shard else state


async def load_for(path: Path, event_log: EventLog, shard: str) -> ShardState:
    """Return the snapshot's state if it is one of *this* log, else an empty one.

    A log that was restored or begun anew is shorter than its old snapshot, or has other
    records; a leader that took such a snapshot for a prefix could never be elected.

    Raises:
        LogUnavailableError: The log did not answer.
    """
    state = await load(path, shard)
    if state.seq == 0:
        return state
    entries = await event_log.read(state.seq - 1, records_max=1)
    if entries and entries[0].seq == state.seq:
        (entry,) = entries
        run = state.runs.get(entry.key)
        chain = state.chain if entry.key == SHARD_KEY else run.chain if run is not None else b""
        if chain == chain_hash(entry.payload):
            return state
    log.warning("snapshot_of_another_log", path=str(path), seq=state.seq)
    return ShardState(shard)


async def _read(path: Path) -> ShardState | None:
    async with aiosqlite.connect(f"file:{quote(str(path))}?mode=ro", uri=True) as db:
        async with db.execute("SELECT format, seq, state_hash, shard FROM meta") as cursor:
            row = await cursor.fetchone()
        if row is None or row[0] != FORMAT:
            return None
        state = _shard_decoder.decode(row[3])
        async with db.execute("SELECT state FROM run") as cursor:
            async for (image,) in cursor:
                run = _run_decoder.decode(image)
                # Not covered by the hash, because it follows from what is.
                run.ordinals = {action.id: n for n, action in enumerate(run.actions)}
                share_decoded(run)
                state.runs[run.id] = run
    if state.seq != row[1] or state_hash(state) != row[2]:
        log.warning("snapshot_hash_mismatch", path=str(path))
        return None
    return state


async def save(path: Path, state: ShardState, *, known: dict[str, int]) -> bytes:
    """Write `state`, of the runs only those whose revision differs from `known`.

    With nothing known the file is begun anew, whatever is in it.

    Returns:
        The state hash stored with it.
    """
    if not known:
        _begin(path)
    digest = state_hash(state)
    image = _encoder.encode(msgspec.structs.replace(state, runs={}))
    dirty = [
        (run.id, run.rev, _encoder.encode(run))
        for run in state.runs.values()
        # A quarantine moves no revision.
        if known.get(run.id) != run.rev or run.quarantine
    ]
    gone = [(run_id,) for run_id in known if run_id not in state.runs]
    async with aiosqlite.connect(path) as db:
        await db.execute("PRAGMA journal_mode=WAL")
        await db.executescript(_SCHEMA)
        await db.executemany("INSERT OR REPLACE INTO run VALUES (?, ?, ?)", dirty)
        await db.executemany("DELETE FROM run WHERE id = ?", gone)
        await db.execute(
            "INSERT OR REPLACE INTO meta VALUES (1, ?, ?, ?, ?)",
            (FORMAT, state.seq, digest, image),
        )
        await db.commit()
    return digest


def _begin(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


async def make(path: Path, event_log: EventLog, shard: str) -> ShardState:
    """Bring the snapshot at `path` up to the end of the log and return its state."""
    state = await load_for(path, event_log, shard)
    known = {run.id: run.rev for run in state.runs.values()}
    await catch_up(event_log, state)
    await save(path, state, known=known)
    return state


def step_back() -> None:
    """Let everybody else go first: nobody waits for a snapshot."""
    os.nice(NICE)
    if os.getsid(0) == os.getpid():
        # Linux shares the CPUs between sessions first, if so configured, and this one is ours.
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICE))


async def _main(config: SchedulerConfig) -> None:
    shard = config.endpoint.shard_name
    connection = await connect(config.endpoint, name=f"{config.node}-snapshot")
    try:
        state = await make(
            snapshot_path(config.data_dir, shard), connection.event_log(shard), shard
        )
    finally:
        await connection.close()
    print(state.seq, state_hash(state).hex())


if __name__ == "__main__":
    step_back()
    configure_logging("snapshot")
    settings = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=SchedulerConfig)
    asyncio.run(_main(settings))
