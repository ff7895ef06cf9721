"""The auditor has nothing to say about logs that a right leader writes."""

import pytest
from log_builder import (
    CACHED,
    CANCELLED,
    ERROR,
    HEAD,
    OTHER,
    OUTPUT,
    RETRYING,
    RUN,
    SERIAL,
    TAIL,
    LogBuilder,
    again,
    asked,
    began,
    child_name,
    created,
    ended,
    failed,
    gone_back,
    lost,
    over,
    retrying,
    sent,
    step,
    stop,
    stop_run,
    token,
    won,
)

from millstream_events import model as m
from millstream_events.audit import audit

VALID = {
    "a run of one action": [HEAD, [began(0)], TAIL],
    "a child": [HEAD, [asked(1), sent(1)], [won(1)], TAIL],
    "a retry after a failure": [
        RETRYING,
        [failed(0), again(0, 2)],
        [sent(0, 2)],
        [won(0, 2), over()],
    ],
    "a retry after a wait": [
        RETRYING,
        [failed(0), again(0, 2, due_ms=9)],
        [m.TimerFired(0, 2, what="backoff", due_ms=9), sent(0, 2)],
        [won(0, 2), over()],
    ],
    "a retry after a lost worker": [
        HEAD,
        [lost(0), again(0, 2, budget="system"), sent(0, 2)],
        [won(0, 2), over()],
    ],
    "a dispatch that came back": [HEAD, [gone_back(0), sent(0, 1, 2)], [won(0, 1, 2), over()]],
    "an eviction": [
        HEAD,
        [m.AttemptParked(0, 1, token=token(0))],
        [m.AttemptEvicted(0, 1, token=token(0)), sent(0, 1, 2)],
        [won(0, 1, 2), over()],
    ],
    "a late success of a lost attempt": [
        HEAD,
        [lost(0), again(0, 2, budget="system"), sent(0, 2)],
        [won(0)],
        [won(0, 2), over()],
    ],
    "a failed run": [HEAD, [failed(0), ended(0), over("FAILED")]],
    "an abort of what runs": [
        HEAD,
        [asked(1), sent(1)],
        [stop_run(), stop(0, "run-aborted"), stop(1, "parent-aborted")],
        [failed(1, error=CANCELLED), ended(1, "ABORTED")],
        [won(0), ended(0, "ABORTED"), over("ABORTED")],
    ],
    "an abort in two frames of one tick": [
        HEAD,
        [asked(1), asked(2)],
        [stop(1), ended(1, "ABORTED"), stop(2), ended(2, "ABORTED")],
        TAIL,
    ],
    "an action's deadline": [
        HEAD,
        [m.TimerFired(0, 1, what="deadline"), stop(0, "deadline", timed_out=True)],
        [failed(0, error=CANCELLED), ended(0, "TIMED_OUT"), over("TIMED_OUT")],
    ],
    "children of a parent that ended": [
        HEAD,
        [asked(1), sent(1)],
        [asked(2, 1)],
        [
            won(0),
            stop(1, "parent-ended"),
            ended(1, "ABORTED"),
            stop(2, "parent-ended"),
            ended(2, "ABORTED"),
            over(),
        ],
    ],
    "a detached child": [
        HEAD,
        [asked(1, policy=retrying(detached=True)), sent(1)],
        [won(0)],
        [won(1), over()],
    ],
    "a runtime limit": [
        HEAD,
        [m.TimerFired(0, 1, what="runtime"), ended(0, "TIMED_OUT"), over("TIMED_OUT")],
    ],
    "a queue limit": [
        [created()],
        [m.TimerFired(0, 1, what="queued"), ended(0, "TIMED_OUT"), over("TIMED_OUT")],
    ],
    "a timer, a condition and steps": [
        HEAD,
        [m.TimerSet(1, id=child_name(1), due_ms=5), step(2), step(3, error=ERROR, output=None)],
        [m.ConditionOpened(4, id=child_name(4), name="ok"), m.GroupOpened(0, name="g")],
        [m.TimerFired(1, what="timer", due_ms=5), m.ConditionSignalled(4, value=OUTPUT)],
        [m.StreamItem(0, 1, token=token(0)), m.GroupClosed(0, name="g"), *TAIL],
    ],
    "a cached child": [
        HEAD,
        [asked(1, **CACHED), m.CacheReserved(1, key=b"key"), sent(1)],
        [won(1), asked(2, **CACHED)],
        [m.CacheHit(2, key=b"key", source_run=RUN, source_action=1, output=OUTPUT), *TAIL],
    ],
    "a call that waits for another, and takes over": [
        HEAD,
        [asked(1, **SERIAL), m.CacheReserved(1, key=b"key", revision=1), sent(1)],
        [asked(2, **SERIAL), m.ActionHeld(2, why="cache", reason="a1")],
        [asked(3, **SERIAL), m.ActionHeld(3, why="cache", reason="a1")],
        [failed(1), ended(1), m.CacheReserved(2, key=b"key", revision=2), sent(2)],
        [won(2), m.CacheHit(3, key=b"key", source_run=RUN, source_action=2, output=OUTPUT)],
        TAIL,
    ],
    "a recovered child and a child run": [
        HEAD,
        [asked(1), m.ActionRecovered(1, source_run=OTHER, source_action=1, output=OUTPUT)],
        [asked(2, kind="childrun"), m.ChildRunLinked(2, run=OTHER)],
        [m.ChildRunFinished(2, phase="SUCCEEDED", output=OUTPUT)],
        TAIL,
    ],
    "a held, paused and annotated run": [
        [created(), m.ActionHeld(0, why="pool", reason="no pool")],
        [m.RunPaused(0), m.RunResumed(0), sent(0)],
        TAIL,
        [m.RunAnnotated(0, entries=(("note", "x"),))],
    ],
    "a replayed parent asks again": [
        RETRYING,
        [asked(1), sent(1)],
        [failed(0), again(0, 2), sent(0, 2)],
        [asked(1), step(2, token=token(0, 2))],
        [won(1), won(0, 2), over()],
    ],
}


@pytest.mark.parametrize("name", VALID)
def test_a_valid_log_breaks_no_invariant(name: str) -> None:
    report = audit(LogBuilder().runs(*VALID[name]).entries, quiescent=True)
    assert report.violations == ()
    assert (report.runs, report.unfinished) == (1, 0)


@pytest.mark.parametrize("name", VALID)
def test_a_valid_log_of_one_run_alone_breaks_no_invariant(name: str) -> None:
    log = LogBuilder()
    for events in VALID[name]:
        log.runs(events)
        log.runs([m.RunAnnotated(0)], key=OTHER)
    mine = [entry for entry in log.entries if entry.key == RUN]
    assert audit(mine, quiescent=True).violations == ()
