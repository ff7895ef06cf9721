"""Snapshots: an accelerator that may be torn, old, foreign or gone without anybody noticing."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sim_shard import SHARD, Shard, works

from millstream_events.fold import fold_entry
from millstream_events.ids import new_run_id
from millstream_events.memory import MemoryConnection
from millstream_events.memory_log import MemoryLog
from millstream_events.ports import LogEntry
from millstream_events.reports import Failed, SetTimer, StartAction, Succeeded
from millstream_events.state import ShardState, collapse, state_hash
from millstream_events.values import ErrorRecord, Inline, Policy, TaskRef
from millstream_scheduler.snapshot import (
    events_until_next,
    load,
    load_for,
    make,
    save,
    snapshot_path,
)
from millstream_scheduler.takeover import catch_up


def history(seed: int = 5) -> list[LogEntry]:
    """Return a log with finished and open runs, children, retries, timers and a takeover."""
    shard = Shard()
    shard.join(credit=200)
    for number in range(8):
        run = new_run_id(now_ms=1_700_000_000_000 + number, random_bits=seed)
        (root,) = works(shard.submit(Policy(retries=1), run).agents_now["a"])
        if number == 4:
            shard.take_over()
            shard.number = 1
            shard.replays = False
            shard.join(credit=200)
            continue
        shard.tick(SetTimer(run, 0, root.token, b"timer-----", shard.now_ms + 60_000))
        for child in range(3):
            call = StartAction(
                *(run, 0, root.token, b"child-%04d" % child, "task", TaskRef("e.c"), None, b"h"),
                policy=Policy(retries=2),
                cache_key=b"key-%d" % child if number == 1 else b"",
            )
            (work,) = works(shard.tick(call).agents_now["a"])
            if child == 1:
                error = ErrorRecord("user", "ValueError", "no")
                (work,) = works(
                    shard.tick(Failed(run, work.action, work.token, error)).agents_now["a"]
                )
            if child < 2:
                shard.tick(
                    Succeeded(run, work.action, work.token, Inline("x", run.encode()), "w", 1, 2)
                )
        if number % 2:
            shard.tick(Succeeded(run, 0, root.token, Inline("x", b"done"), "w", 1, 2))
    return shard.log


def folded(entries: list[LogEntry]) -> ShardState:
    state = ShardState(SHARD)
    for entry in entries:
        fold_entry(state, entry)
    for run in state.runs.values():
        if run.finished:
            collapse(run)
    return state


HISTORY = history()


@pytest.mark.parametrize("events", [50_000, 300_000, 3_000_000])
def test_all_snapshots_of_a_growing_state_cost_no_more_than_its_log(events: int) -> None:
    written = read = 0
    while written < events:
        kept = written // 3  # Three events for an action.
        read += kept
        written += events_until_next(50_000, kept)
    assert read <= events


def log_of(entries: list[LogEntry]) -> MemoryLog:
    log = MemoryConnection().event_log(SHARD)
    for entry in entries:
        log.records.add(entry.key, entry.payload)
    return log


def test_the_history_under_test_has_open_and_finished_runs() -> None:
    runs = folded(HISTORY).runs.values()
    assert any(run.finished for run in runs)
    assert any(not run.finished and len(run.ordinals) > 1 for run in runs)


async def test_a_snapshot_read_back_is_the_state_that_was_saved(tmp_path: Path) -> None:
    path = snapshot_path(str(tmp_path), SHARD)
    state = folded(HISTORY)
    digest = await save(path, state, known={})
    loaded = await load(path, SHARD)
    assert state_hash(loaded) == digest == state_hash(state)
    assert (loaded.seq, loaded.epoch, loaded.number) == (state.seq, state.epoch, state.number)
    for run in state.runs.values():
        assert loaded.runs[run.id] == run


@pytest.mark.parametrize("cut", range(0, len(HISTORY), max(1, len(HISTORY) // 12)))
async def test_a_snapshot_of_any_prefix_and_the_tail_are_the_whole_log(
    tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "s.sqlite"
    await make(path, log_of(HISTORY[:cut]), SHARD)
    whole = log_of(HISTORY)
    state = await load_for(path, whole, SHARD)
    assert state.seq == cut or cut == 0
    await catch_up(whole, state)
    expected = folded(HISTORY)
    assert state_hash(state) == state_hash(expected)
    for run in expected.runs.values():
        if not run.finished:
            assert state.runs[run.id] == run


async def test_a_growing_log_is_followed_and_only_changed_runs_are_written(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    log = log_of([])
    for step in range(0, len(HISTORY), 40):
        before = {run.id: run.rev for run in (await load(path, SHARD)).runs.values()}
        if before:
            with sqlite3.connect(path) as db:
                db.execute("CREATE TABLE IF NOT EXISTS written (id TEXT)")
                db.execute("DELETE FROM written")
                db.execute(
                    "CREATE TRIGGER IF NOT EXISTS note AFTER INSERT ON run "
                    "BEGIN INSERT INTO written VALUES (new.id); END"
                )
            db.close()
        for entry in HISTORY[step : step + 40]:
            log.records.add(entry.key, entry.payload)
        state = await make(path, log, SHARD)
        assert state_hash(state) == state_hash(folded(HISTORY[: step + 40]))
        if before:
            with sqlite3.connect(path) as db:
                written = {row[0] for row in db.execute("SELECT id FROM written")}
            db.close()
            changed = {run.id for run in state.runs.values() if before.get(run.id) != run.rev}
            assert written == changed
    assert (await load(path, SHARD)).seq == len(HISTORY)


async def test_finished_runs_are_kept_without_their_actions(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    await make(path, log_of(HISTORY), SHARD)
    loaded = await load(path, SHARD)
    assert all(not run.actions for run in loaded.runs.values() if run.finished)
    assert all(run.actions for run in loaded.runs.values() if not run.finished)


# ------------------------------------------------------------------ what cannot be trusted


def _other_format(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET format = format + 1")
    db.close()


def _no_meta(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM meta")
    db.close()


def _a_run_less(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM run WHERE id = (SELECT min(id) FROM run)")
    db.close()


def _text_for_bytes(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET shard = 'text'")
    db.close()


def _number_for_bytes(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE run SET state = 7")
    db.close()


def _other_seq(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET seq = seq - 1")
    db.close()


SPOILT: list[Callable[[Path], object]] = [
    Path.unlink,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"no database at all" * 300),
    lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    lambda path: path.write_bytes(path.read_bytes()[:100]),
    lambda path: (path.unlink(), path.mkdir()),
    _other_format,
    _no_meta,
    _a_run_less,
    _text_for_bytes,
    _number_for_bytes,
    _other_seq,
]


@pytest.mark.parametrize("spoil", SPOILT)
async def test_whatever_is_wrong_with_the_file_the_log_is_folded_anew(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    path = tmp_path / "s.sqlite"
    log = log_of(HISTORY)
    await make(path, log, SHARD)
    spoil(path)
    state = await load_for(path, log, SHARD)
    assert state.seq == 0
    await catch_up(log, state)
    assert state_hash(state) == state_hash(folded(HISTORY))


async def test_a_spoilt_file_is_replaced_by_the_next_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    log = log_of(HISTORY)
    await make(path, log, SHARD)
    path.write_bytes(b"\x00" * 5000)
    await make(path, log, SHARD)
    assert state_hash(await load(path, SHARD)) == state_hash(folded(HISTORY))


async def test_a_flipped_byte_anywhere_changes_no_state(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    state = folded(HISTORY)
    await save(path, state, known={})
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=DELETE")
    db.close()
    good = path.read_bytes()
    rejected = 0
    for at in range(0, len(good), max(1, len(good) // 250)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x41]) + good[at + 1 :])
        loaded = await load(path, SHARD)
        if loaded.seq == 0:
            rejected += 1
            continue
        assert state_hash(loaded) == state_hash(state)
        for run in state.runs.values():
            if not run.finished:
                assert loaded.runs[run.id] == run, at
    assert rejected > 15


async def test_a_snapshot_of_another_shard_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    await make(path, log_of(HISTORY), SHARD)
    assert (await load(path, "lo01")).seq == 0


@pytest.mark.parametrize(
    "entries",
    [[], HISTORY[: len(HISTORY) // 2], history(6), history(6) + history(5)[:1] * 9],
    ids=["empty", "restored-from-a-backup", "another", "another-and-longer"],
)
async def test_a_snapshot_of_another_log_is_not_taken(
    tmp_path: Path, entries: list[LogEntry]
) -> None:
    path = tmp_path / "s.sqlite"
    await make(path, log_of(HISTORY), SHARD)
    other = log_of(entries)
    state = await load_for(path, other, SHARD)
    assert state.seq == 0
    made = await make(path, other, SHARD)
    assert made.seq == len(entries)
    assert state_hash(await load(path, SHARD)) == state_hash(folded(list(entries_of(other))))


def entries_of(log: MemoryLog) -> list[LogEntry]:
    return log.records.read(0, None, 1_000_000)


async def test_a_quarantined_run_is_written_though_its_revision_stands(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    log = log_of(HISTORY)
    state = await make(path, log, SHARD)
    open_run = next(run for run in state.runs.values() if not run.finished)
    log.records.add(open_run.id, b"no frame")
    await make(path, log, SHARD)
    loaded = await load(path, SHARD)
    assert loaded.seq == len(HISTORY) + 1
    assert loaded.runs[open_run.id].quarantine
