"""The auditor names what is broken in frames, chains, epochs and folds."""

import msgspec
import pytest
from log_builder import (
    HEAD,
    OTHER,
    RETRYING,
    RUN,
    TAIL,
    LogBuilder,
    again,
    asked,
    began,
    ended,
    failed,
    invariants,
    over,
    sent,
    won,
)

from millstream_events import model as m
from millstream_events.audit import LogAudit, audit
from millstream_events.audit_records import VIOLATIONS_MAX
from millstream_events.audit_replay import ReplayAudit
from millstream_events.codec import decode_frame, encode
from millstream_events.fold import fold_entry
from millstream_events.ports import LogEntry
from millstream_events.state import ShardState, state_hash
from millstream_events.subjects import SHARD_KEY

# ------------------------------------------------------------------ frames


def two_runs() -> LogBuilder:
    log = LogBuilder()
    for events in (HEAD, [began(0)], TAIL):
        log.runs(events)
        log.runs(events, key=OTHER)
    return log


def edited(log: LogBuilder, position: int, payload: bytes) -> list[LogEntry]:
    entries = list(log.entries)
    entries[position] = msgspec.structs.replace(entries[position], payload=payload)
    return entries


def frame_at(log: LogBuilder, position: int) -> m.Frame:
    frame = decode_frame(log.entries[position].payload, key=RUN, seq=1)
    assert isinstance(frame, m.Frame)
    return frame


def restamped(log: LogBuilder, position: int, **fields: object) -> list[LogEntry]:
    frame = msgspec.structs.replace(frame_at(log, position), **fields)
    return edited(log, position, encode(frame))


def without(log: LogBuilder, position: int) -> list[LogEntry]:
    return log.entries[:position] + log.entries[position + 1 :]


def repeated(log: LogBuilder, position: int, **fields: object) -> list[LogEntry]:
    again_written = restamped(log, position, **fields)[position]
    return [*log.entries[: position + 1], again_written, *log.entries[position + 1 :]]


def unknown_event(log: LogBuilder, position: int) -> list[LogEntry]:
    raw = msgspec.msgpack.decode(log.entries[position].payload)
    raw[-1][0][0] = 49
    return edited(log, position, msgspec.msgpack.encode(raw))


def elections(*epochs: int, announced: int | None = None) -> list[LogEntry]:
    log = LogBuilder(elected=False)
    for epoch in epochs:
        log.elect(epoch, **({} if announced is None else {"announced": announced}))
        log.runs([m.RunAnnotated(0)])
    return log.entries


def wrong_snapshot(log: LogBuilder) -> list[LogEntry]:
    seq = log.entries[-1].seq
    log.frame(SHARD_KEY, [m.SnapshotTaken(0, seq=seq, state_hash=bytes(16))])
    return log.entries


FRAME_MUTANTS = {
    "a frame number with two contents": ("I02", lambda: repeated(two_runs(), 3, ts_ns=9)),
    "a frame of a run is missing": ("I03 I17", lambda: without(two_runs(), 3)),
    "a frame of the shard is missing": ("I16 I03", lambda: without(two_epochs(), 2)),
    "a run's last frame is missing": ("I17", lambda: without(two_runs(), 5)),
    "a revision is skipped": ("I03", lambda: restamped(two_runs(), 3, rev=4)),
    "a revision is repeated": ("I03", lambda: restamped(two_runs(), 3, rev=2)),
    "a chain is broken": ("I03", lambda: restamped(two_runs(), 3, prev=bytes(16))),
    "a frame is altered": ("I03", lambda: restamped(two_runs(), 1, ts_ns=1)),
    "a frame is cut short": (
        "I03 I17",
        lambda: edited(two_runs(), 3, two_runs().entries[3].payload[:-2]),
    ),
    "a frame is not one": ("I03 I17", lambda: edited(two_runs(), 3, b"not a frame")),
    "a deposed leader writes": ("I16", lambda: deposed()),
    "an epoch that nobody announced": ("I16", lambda: restamped(two_runs(), 6, epoch=2, number=1)),
    "an epoch that is announced twice": ("I16", lambda: elections(1, 2, announced=1)),
    "an epoch that is announced in another": ("I16", lambda: elections(1, announced=3)),
    "an event of an unknown type": ("I29", lambda: unknown_event(two_runs(), 6)),
    "a snapshot of another state": ("I28", lambda: wrong_snapshot(two_runs())),
}


def two_epochs() -> LogBuilder:
    log = LogBuilder().runs(HEAD)
    log.elect(2)
    log.runs([began(0)])
    log.elect(3)
    return log


def deposed() -> list[LogEntry]:
    log = two_runs()
    log.elect(2)
    log.runs([m.RunAnnotated(0)])
    log.frame(RUN, [m.RunAnnotated(0)], epoch=1, number=99)
    return log.entries


@pytest.mark.parametrize("name", FRAME_MUTANTS)
def test_the_auditor_names_the_invariant_that_a_wrong_frame_breaks(name: str) -> None:
    expected, write = FRAME_MUTANTS[name]
    assert invariants(write()) == set(expected.split())


def test_a_republished_frame_is_void_and_no_violation() -> None:
    report = audit(repeated(two_runs(), 3), quiescent=True)
    assert report.violations == ()
    assert report.voids == 1


def test_a_snapshot_of_the_same_state_is_no_violation() -> None:
    log = two_runs()
    shard = ShardState("lo00")
    for entry in log.entries:
        fold_entry(shard, entry)
    log.frame(SHARD_KEY, [m.SnapshotTaken(0, seq=shard.seq, state_hash=state_hash(shard))])
    assert invariants(log.entries) == set()


def test_frames_of_archived_runs_may_be_missing() -> None:
    log = two_runs()
    log.frame(SHARD_KEY, [m.RunArchived(0, run=OTHER)])
    left = [entry for entry in log.entries if entry.key != OTHER]
    assert invariants(left) == set()


def test_a_failure_left_by_a_dead_leader_is_its_successors_business() -> None:
    log = LogBuilder().runs(RETRYING, [failed(0)])
    log.elect(2)
    log.runs([again(0, 2), sent(0, 2)], [won(0, 2), over()])
    assert invariants(log.entries) == set()


def test_a_tick_may_take_several_frames() -> None:
    log = LogBuilder().runs(RETRYING, [failed(0)])
    log.frame(RUN, [again(0, 2), sent(0, 2)], same_tick=True)
    log.runs([won(0, 2), over()])
    assert invariants(log.entries) == set()


def test_a_run_that_goes_on_is_counted_only() -> None:
    report = audit(LogBuilder().runs(HEAD, [asked(1)]).entries, quiescent=True)
    assert (report.unfinished, report.violations) == (1, ())


def test_nothing_more_is_said_about_a_run_with_a_gap() -> None:
    entries = without(LogBuilder(elected=False).runs(HEAD, [asked(1)], [sent(1)], TAIL), 1)
    assert [violation.invariant for violation in audit(entries, quiescent=True).violations] == [
        "I03"
    ]


def test_the_number_of_violations_is_bounded_and_the_rest_is_counted() -> None:
    log = LogBuilder().runs(HEAD)
    for _ in range(VIOLATIONS_MAX + 5):
        log.runs([ended(7)])
    report = audit(log.entries, quiescent=False)
    assert (len(report.violations), report.dropped) == (VIOLATIONS_MAX, 5)


def test_a_finished_run_costs_the_auditor_almost_nothing() -> None:
    auditor = LogAudit()
    log = LogBuilder().runs(HEAD, [asked(n) for n in range(1, 100)])
    log.runs([sent(n) for n in range(1, 100)], [won(n) for n in range(1, 100)], TAIL)
    for entry in log.entries:
        auditor.take(entry)
    note = auditor._runs[RUN]
    assert not any((note.actions, note.ids, note.calls, note.tokens, note.traces))
    assert not auditor._replay._plain.runs[RUN].actions


# ------------------------------------------------------------------ broken folds


def clock_fold(shard: ShardState, entry: LogEntry) -> bool:
    """A fold that lets time order things: a frame that is not later than the last is ignored."""
    frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
    if frame.ts_ns <= shard.ts_ns and shard.ts_ns:
        return False
    return fold_entry(shard, entry)


class ForgetfulFold:
    """A fold that keeps something beside the state, where a snapshot does not find it."""

    def __init__(self) -> None:
        self.beside: dict[int, int] = {}

    def __call__(self, shard: ShardState, entry: LogEntry) -> bool:
        seen = self.beside[id(shard)] = self.beside.get(id(shard), 0) + 1
        counted = fold_entry(shard, entry)
        if entry.key in shard.runs and seen > 3:
            shard.runs[entry.key].voids = seen
        return counted


@pytest.mark.parametrize(
    ("fold", "expected"), [(clock_fold, "I18"), (ForgetfulFold(), "I28"), (fold_entry, None)]
)
def test_a_fold_that_needs_more_than_the_log_is_found_out(fold: object, expected: str) -> None:
    said = []
    replay = ReplayAudit(lambda *words: said.append(words[0]), fold)
    for entry in two_runs().entries:
        replay.take(entry)
    replay.end()
    assert set(said) == ({expected} if expected else set())
