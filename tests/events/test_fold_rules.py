"""Single rules of the fold, each with the case in which it once was, or could be, broken."""

import pytest
from log_builder import (
    CACHED,
    OTHER,
    OUTPUT,
    RETRYING,
    RUN,
    TAIL,
    LogBuilder,
    again,
    asked,
    child_name,
    created,
    ended,
    failed,
    over,
    retrying,
    sent,
    step,
    stop,
    token,
    won,
)

from millstream_events import model as m
from millstream_events.check import check_state
from millstream_events.fold import apply, fold_entry
from millstream_events.phases import State
from millstream_events.ports import LogEntry
from millstream_events.state import RunState, ShardState, collapse, run_hash, state_hash
from millstream_events.subjects import SHARD_KEY


def folded(entries: list[LogEntry]) -> ShardState:
    shard = ShardState("lo00")
    for entry in entries:
        fold_entry(shard, entry)
    assert check_state(shard) == []
    return shard


def after(*events: m.Event) -> tuple[RunState, bool]:
    """Return the run after these events, and whether the last one took effect."""
    shard = ShardState("lo00")
    run = shard.runs[RUN] = RunState(RUN)
    effective = [apply(shard, run, event, 5) for event in events]
    assert all(effective[:-1]), effective
    assert check_state(shard) == []
    return run, effective[-1]


RUNNING = [created(), sent(0)]
#: A last event that must take no effect, after those before it did.
VOID = {
    "an ordinal below zero": [*RUNNING, won(-1, token=token(0))],
    "a parent below zero": [*RUNNING, asked(1, -1)],
    "a step of a parent below zero": [*RUNNING, step(1, -1, token=token(0))],
    "a step without a token": [created(), step(1, token=b"")],
    "a dispatch without a token": [created(), sent(0, token=b"")],
    "a report without a token": [*RUNNING, stop(0), failed(0), failed(0, token=b"")],
    "a retry that skips an attempt": [*RETRYING, failed(0), again(0, 3)],
    "a retry of the same attempt": [*RETRYING, failed(0), again(0, 1)],
    "a second dispatch (F10)": [*RUNNING, sent(0, 1, 2)],
    "a report under an old token (F6)": [*RETRYING, failed(0), again(0, 2), sent(0, 2), won(0)],
    "a success after the abort (F7)": [*RUNNING, stop(0), won(0)],
    "an abort after the success (F7)": [*RUNNING, won(0), stop(0)],
    "a success after the timeout (F8)": [*RUNNING, m.TimerFired(0, 1, what="runtime"), won(0)],
    "a timeout after the success (F8)": [*RUNNING, won(0), m.TimerFired(0, 1, what="runtime")],
    "a known request (F9)": [*RUNNING, asked(1), asked(1)],
    "a known request under a new ordinal (F9)": [*RUNNING, asked(1), asked(2, id=child_name(1))],
    "a request below an abort": [*RUNNING, stop(0), asked(1)],
    "a timer below an abort": [*RUNNING, stop(0), m.TimerSet(1, id=child_name(1))],
    "a request in a run that is aborted": [*RUNNING, m.RunAbortRequested(0), asked(1)],
    "a dispatch in a run that is aborted": [created(), m.RunAbortRequested(0), sent(0)],
    "a run that ends before its root (F11)": [*RUNNING, over()],
    "a run that ends before a child (F11)": [
        *RUNNING,
        asked(1, policy=retrying(detached=True)),
        won(0),
        over(),
    ],
    "a run that ends as nothing": [*RUNNING, won(0), over("")],
    "an action that ends as nothing": [*RUNNING, ended(0, "RUNNING")],
    "a child run that ends as nothing": [
        *RUNNING,
        asked(1, kind="childrun"),
        m.ChildRunFinished(1, phase=""),
    ],
    "a child run of a plain task": [*RUNNING, asked(1), m.ChildRunLinked(1, run=OTHER)],
    "a second run under the same id": [*RUNNING, created()],
}


@pytest.mark.parametrize("name", VOID)
def test_an_event_against_the_rules_is_void(name: str) -> None:
    run, effective = after(*VOID[name])
    assert not effective
    assert run.voids == 1


def test_a_success_after_the_abort_is_kept_as_discarded() -> None:
    run, _ = after(*RUNNING, stop(0), won(0))
    assert run.actions[0].discarded == OUTPUT
    assert run.actions[0].state == State.ABORTING


def test_a_step_done_before_the_abort_is_still_recorded() -> None:
    run, effective = after(*RUNNING, stop(0), step(1))
    assert effective
    assert run.succeeded == 1


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ({"epoch": 9}, "never announced"),
        ({"epoch": 9, "number": 1}, "never announced"),
        ({"rev": 7}, "revision 7 follows 2"),
        ({"rev": 2**63}, "impossible revision"),
        ({"rev": 0}, "impossible revision"),
        ({"prev": bytes(16)}, "broken chain"),
    ],
)
def test_a_damaged_frame_quarantines_its_run_and_no_other(
    damage: dict[str, object], why: str
) -> None:
    log = LogBuilder().runs(RUNNING)
    log.runs(RUNNING, key=OTHER)
    log.frame(RUN, [asked(1)], **damage)
    log.runs(TAIL, key=OTHER)
    shard = folded(log.entries)
    assert why in shard.runs[RUN].quarantine
    assert shard.runs[OTHER].finished
    assert shard.epoch == 1


def test_a_number_that_is_too_high_does_not_void_what_follows() -> None:
    log = LogBuilder().runs(RUNNING)
    log.runs(RUNNING, key=OTHER)
    log.frame(RUN, [asked(1)], number=2**40)
    log.runs(TAIL, key=OTHER)
    assert folded(log.entries).runs[OTHER].finished


def test_a_republished_frame_is_void_f3() -> None:
    log = LogBuilder().runs(RUNNING, TAIL)
    once = folded(log.entries)
    twice = folded([entry for entry in log.entries for _ in range(2)])
    assert twice.void_frames == len(log.entries)
    twice.void_frames = 0
    assert state_hash(twice) == state_hash(once)


def test_a_frame_of_a_deposed_leader_is_void_f2() -> None:
    log = LogBuilder().runs(RUNNING)
    log.elect(2)
    log.frame(RUN, TAIL, epoch=1, number=9)
    shard = folded(log.entries)
    assert not shard.runs[RUN].finished
    assert not shard.runs[RUN].quarantine
    assert shard.void_frames == 1


def test_the_log_of_one_run_alone_folds_across_epochs() -> None:
    log = LogBuilder().runs(RUNNING)
    log.elect(2)
    log.runs(TAIL)
    mine = [entry for entry in log.entries if entry.key == RUN]
    assert folded(mine).runs[RUN].finished


def test_the_name_of_an_archived_run_is_free_again() -> None:
    log = LogBuilder().runs([created(name="nightly"), sent(0)], TAIL)
    assert folded(log.entries).names == {"p\x00nightly": RUN}
    log.frame(SHARD_KEY, [m.RunArchived(0, run=RUN)])
    shard = folded(log.entries)
    assert shard.names == {}
    assert shard.runs == {}


def test_an_open_run_is_not_archived() -> None:
    log = LogBuilder().runs(RUNNING)
    log.frame(SHARD_KEY, [m.RunArchived(0, run=RUN)])
    assert RUN in folded(log.entries).runs


def test_the_state_hash_covers_the_cache_and_takes_keys_that_are_bytes() -> None:
    log = LogBuilder().runs([created(**CACHED), sent(0)], [won(0)])
    shard = folded(log.entries)
    before = state_hash(shard)
    shard.cache[b"key"].output = None
    assert state_hash(shard) != before


def test_letting_go_of_actions_keeps_the_hash() -> None:
    run, _ = after(*RUNNING, *TAIL)
    before = run_hash(run)
    collapse(run)
    assert run_hash(run) == before
