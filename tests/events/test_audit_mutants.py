"""The auditor names what is broken: small logs, each valid but for one edit."""

import pytest
from log_builder import (
    CACHED,
    CANCELLED,
    FINAL_ERROR,
    HEAD,
    OTHER_OUTPUT,
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
    invariants,
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
from millstream_events.values import Items

#: What breaks -> the invariants named, and the log.
MUTANTS = {
    # I02 uniqueness
    "two dispatches of one attempt": ("I02", [HEAD, [sent(0, 1, 2)], [won(0), over()]]),
    "a run that is created twice": ("I02", [HEAD, [created()], TAIL]),
    # I04 one terminal
    "an end after a success": ("I04", [HEAD, [won(0), ended(0), over()]]),
    "an end after an end": ("I04", [HEAD, [failed(0), ended(0), ended(0), over("FAILED")]]),
    "a cache hit after a success": (
        "I04",
        [
            [created(**CACHED), sent(0)],
            [won(0), m.CacheHit(0, key=b"key", source_run=RUN, output=OUTPUT), over()],
        ],
    ),
    "a recovery after a success": ("I04", [HEAD, [won(0), m.ActionRecovered(0), over()]]),
    "an end that is none": ("I04", [HEAD, [ended(0, "RUNNING")], TAIL]),
    "a timer that fires twice": (
        "I04",
        [
            HEAD,
            [m.TimerSet(1, id=child_name(1))],
            [m.TimerFired(1)],
            [m.TimerFired(1)],
            TAIL,
        ],
    ),
    # I05 absorbing
    "a dispatch after the end": ("I05", [HEAD, [won(0), sent(0, 1, 2), over()]]),
    "a retry after the end": ("I05", [RETRYING, [won(0), again(0, 2), over()]]),
    "a hold after the end": ("I05", [HEAD, [won(0), m.ActionHeld(0), over()]]),
    "an abort after the end": ("I05", [HEAD, [won(0), stop(0), over()]]),
    "a dispatch after the run's end": ("I05", [HEAD, TAIL, [sent(0, 1, 2)]]),
    # I06 attempt fencing
    "a success of another attempt": ("I06", [HEAD, [won(0, attempt=2, token=token(0)), over()]]),
    "a failure of another attempt": (
        "I06",
        [HEAD, [failed(0, attempt=2, token=token(0)), ended(0), over("FAILED")]],
    ),
    "a token that is used twice": (
        "I06",
        [
            HEAD,
            [lost(0), again(0, 2, budget="system"), sent(0, 2, token=token(0))],
            [won(0, attempt=2, token=token(0)), over()],
        ],
    ),
    "a token of another action": (
        "I06",
        [HEAD, [asked(1), sent(1, token=token(0))], [won(1, token=token(0))], TAIL],
    ),
    # I07 result immutability
    "two successes with two outputs": (
        "I07",
        [HEAD, [won(0), won(0, output=OTHER_OUTPUT), over()]],
    ),
    "a run with another output than its root": (
        "I07",
        [HEAD, [won(0), over(output=OTHER_OUTPUT)]],
    ),
    "a cache hit with another output": (
        "I07",
        [
            HEAD,
            [asked(1, **CACHED), sent(1)],
            [won(1), asked(2, **CACHED)],
            [
                m.CacheHit(2, key=b"key", source_run=RUN, source_action=1, output=OTHER_OUTPUT),
                *TAIL,
            ],
        ],
    ),
    # I08 monotonic attempts
    "an attempt that is skipped": (
        "I08",
        [RETRYING, [failed(0), again(0, 3), ended(0), over("FAILED")]],
    ),
    "a dispatch of another attempt": (
        "I08 I04 I15 I26",
        [[created(), sent(0, 2)], [won(0, 2), over()]],
    ),
    "a dispatch before its retry is decided": (
        "I08",
        [RETRYING, [failed(0), sent(0, 1, 2), ended(0), over("FAILED")]],
    ),
    "a dispatch before its backoff is over": (
        "I08",
        [
            RETRYING,
            [failed(0), again(0, 2, due_ms=9)],
            [sent(0, 2)],
            [m.TimerFired(0, 2, what="backoff"), sent(0, 2, 2)],
            [won(0, 2, 2), over()],
        ],
    ),
    "a retry without a failure": ("I08", [RETRYING, [again(0, 2)], TAIL]),
    "a retry over the budget": (
        "I08",
        [HEAD, [failed(0), again(0, 2), sent(0, 2)], [won(0, 2), over()]],
    ),
    "a retry over the system budget": (
        "I08",
        [
            [created(policy=retrying(system_retries=0)), sent(0)],
            [lost(0), again(0, 2, budget="system"), sent(0, 2)],
            [won(0, 2), over()],
        ],
    ),
    "a retry of an error that allows none": (
        "I08",
        [RETRYING, [failed(0, error=FINAL_ERROR), again(0, 2), sent(0, 2)], [won(0, 2), over()]],
    ),
    "a second start of what may start once": (
        "I08",
        [
            [created(policy=retrying(idempotent=False)), sent(0)],
            [lost(0), again(0, 2, budget="system"), sent(0, 2)],
            [won(0, 2), over()],
        ],
    ),
    # I15 no silent drop: the items of a map
    "a map of no items": ("I15", [HEAD, [asked(1, kind="map"), sent(1)], [won(1)], TAIL]),
    "items of what is no map": (
        "I15",
        [HEAD, [asked(1, items=2), sent(1)], [won(1, items=Items(2))], TAIL],
    ),
    "a map that does not count its items": (
        "I15",
        [HEAD, [asked(1, kind="map", items=2), sent(1)], [won(1)], TAIL],
    ),
    "a map that counts other items": (
        "I15",
        [HEAD, [asked(1, kind="map", items=2), sent(1)], [won(1, items=Items(3, 3))], TAIL],
    ),
    "a map that counts more than there are": (
        "I15",
        [HEAD, [asked(1, kind="map", items=2), sent(1)], [won(1, items=Items(2, 2, 1))], TAIL],
    ),
    "a recovery that counts more than there are": (
        "I15",
        [
            HEAD,
            [asked(1, kind="map", items=2)],
            [m.ActionRecovered(1, output=OUTPUT, items=Items(2, 3)), *TAIL],
        ],
    ),
    # I09 no success after an abort
    "a dispatch after an abort": (
        "I09",
        [[created()], [stop(0), sent(0), ended(0, "ABORTED"), over("ABORTED")]],
    ),
    "a success below an abort": (
        "I09",
        [
            HEAD,
            [asked(1), sent(1)],
            [stop(0), won(1)],
            [failed(0, error=CANCELLED), ended(0, "ABORTED"), over("ABORTED")],
        ],
    ),
    "a success in a run that is aborted": (
        "I09",
        [HEAD, [stop_run(), won(0), over()]],
    ),
    "a start below an abort": (
        "I09",
        [
            HEAD,
            [asked(1), sent(1)],
            [stop(0), began(1), stop(1, "parent-aborted")],
            [lost(1), ended(1, "ABORTED"), lost(0), ended(0, "ABORTED"), over("ABORTED")],
        ],
    ),
    "a request below an abort": (
        "I09",
        [
            HEAD,
            [stop(0), asked(1)],
            [lost(0), ended(0, "ABORTED"), over("ABORTED")],
        ],
    ),
    "a request of a child that the abort has not reached": (
        "I09",
        [
            HEAD,
            [asked(1), sent(1)],
            [stop(0), asked(2, 1), stop(1, "parent-aborted"), stop(2, "parent-aborted")],
            [ended(2, "ABORTED"), lost(1), ended(1, "ABORTED")],
            [lost(0), ended(0, "ABORTED"), over("ABORTED")],
        ],
    ),
    "a retry below an abort": (
        "I09",
        [
            HEAD,
            [asked(1, policy=retrying()), sent(1)],
            [failed(1), stop(0), again(1, 2), stop(1, "parent-aborted"), ended(1, "ABORTED")],
            [lost(0), ended(0, "ABORTED"), over("ABORTED")],
        ],
    ),
    "a cache hit below an abort": (
        "I09",
        [
            HEAD,
            [asked(1, **CACHED), sent(1)],
            [won(1), asked(2, **CACHED)],
            [stop(0), m.CacheHit(2, key=b"key", source_run=RUN, source_action=1, output=OUTPUT)],
            [lost(0), ended(0, "ABORTED"), over("ABORTED")],
        ],
    ),
    # I10 an abort ends as one
    "an abort that ends as a failure": (
        "I10",
        [HEAD, [stop(0)], [failed(0), ended(0), over("FAILED")]],
    ),
    "an abort that ends as a timeout": (
        "I10",
        [HEAD, [stop(0)], [failed(0), ended(0, "TIMED_OUT"), over("TIMED_OUT")]],
    ),
    # I11 the cascade is complete, and no more than that
    "a child that is forgotten by the abort": (
        "I11",
        [
            HEAD,
            [asked(1), sent(1)],
            [stop(0)],
            [stop(1, "parent-aborted"), lost(1), ended(1, "ABORTED")],
            [lost(0), ended(0, "ABORTED"), over("ABORTED")],
        ],
    ),
    "a child that is forgotten at its parent's end": (
        "I11",
        [HEAD, [asked(1), sent(1)], [won(0)], [won(1), over()]],
    ),
    "an action that nobody aborted": ("I11", [HEAD, [ended(0, "ABORTED"), over("ABORTED")]]),
    "a detached child that is forgotten when the run is aborted": (
        "I11",
        [
            HEAD,
            [asked(1, policy=retrying(detached=True)), sent(1)],
            [stop_run(), stop(0, "run-aborted")],
            [lost(0), ended(0, "ABORTED")],
            [stop(1, "run-aborted"), lost(1), ended(1, "ABORTED"), over("ABORTED")],
        ],
    ),
    "an abort for a parent that goes on": (
        "I11",
        [HEAD, [asked(1)], [stop(1, "parent-ended"), ended(1, "ABORTED")], TAIL],
    ),
    "an abort for a run that goes on": (
        "I11",
        [HEAD, [stop(0, "run-aborted"), lost(0), ended(0, "ABORTED"), over("ABORTED")]],
    ),
    # I12 causality
    "a child of an action that does not run": (
        "I12",
        [[created()], [asked(1), sent(0)], [sent(1)], [won(1)], TAIL],
    ),
    "a child of an attempt that is lost": (
        "I12",
        [
            HEAD,
            [lost(0), asked(1), again(0, 2, budget="system"), sent(0, 2)],
            [sent(1)],
            [won(1), won(0, 2), over()],
        ],
    ),
    "a start before its dispatch": ("I12", [[created(), began(0), sent(0)], TAIL]),
    "an end of nothing": ("I12", [HEAD, [ended(4)], TAIL]),
    "a dispatch of nothing": (
        "I12",
        [HEAD, [sent(1), asked(1), sent(1, 1, 2)], [won(1, 1, 2)], TAIL],
    ),
    "a child of nothing": ("I12", [HEAD, [asked(1, 7)], TAIL]),
    # I13 deterministic identity
    "an id that stands for two calls": (
        "I13",
        [HEAD, [asked(1), sent(1)], [asked(2, id=child_name(1), inputs_hash=b"x")], [won(1)], TAIL],
    ),
    "a call that gets two ids": (
        "I13",
        [HEAD, [asked(1), asked(2, k=1)], [sent(1), sent(2)], [won(1), won(2)], TAIL],
    ),
    "an ordinal that is skipped": ("I13", [HEAD, [asked(2)], TAIL]),
    # I15 no silent drop
    "a failure without a decision": (
        "I15",
        [
            RETRYING,
            [failed(0)],
            [m.RunAnnotated(0)],
            [again(0, 2), sent(0, 2)],
            [won(0, 2), over()],
        ],
    ),
    # I22 checkpoints
    "a step that is recorded twice": (
        "I22",
        [HEAD, [step(1)], [step(1, output=OTHER_OUTPUT)], TAIL],
    ),
    "a step of a superseded attempt": (
        "I22",
        [
            HEAD,
            [lost(0), again(0, 2, budget="system"), sent(0, 2)],
            [step(1)],
            [won(0, 2), over()],
        ],
    ),
    # I23 a cache hit equals its original
    "a cache hit without a source": (
        "I23",
        [[created(**CACHED)], [m.CacheHit(0, key=b"key", output=OUTPUT), over()]],
    ),
    "a cache hit under another key": (
        "I23",
        [
            HEAD,
            [asked(1, **CACHED), sent(1)],
            [won(1), asked(2, cache_key=b"other")],
            [m.CacheHit(2, key=b"key", source_run=RUN, source_action=1, output=OUTPUT), *TAIL],
        ],
    ),
    "a cache hit whose source computed another key": (
        "I23",
        [
            HEAD,
            [asked(1, **CACHED), sent(1), asked(2), sent(2)],
            [won(1), won(2), asked(3, **CACHED)],
            [m.CacheHit(3, key=b"key", source_run=RUN, source_action=2, output=OUTPUT), *TAIL],
        ],
    ),
    # I24 single flight
    "two reservations of one key": (
        "I24",
        [
            HEAD,
            [asked(1, **SERIAL), m.CacheReserved(1, key=b"key", revision=1), sent(1)],
            [asked(2, **SERIAL), m.CacheReserved(2, key=b"key", revision=2)],
            [sent(2), won(1), won(2), *TAIL],
        ],
    ),
    "a reservation that is older than the last one": (
        "I24",
        [
            HEAD,
            [asked(1, **SERIAL), m.CacheReserved(1, key=b"key", revision=5), sent(1)],
            [failed(1), ended(1)],
            [asked(2, **SERIAL), m.CacheReserved(2, key=b"key", revision=5), sent(2)],
            [won(2), *TAIL],
        ],
    ),
    "a reservation of a key that is not the action's": (
        "I24",
        [
            HEAD,
            [asked(1, **SERIAL), m.CacheReserved(1, key=b"other", revision=1), sent(1)],
            [won(1), *TAIL],
        ],
    ),
    "an action that runs while it waits for another": (
        "I24",
        [
            HEAD,
            [asked(1, **SERIAL), m.CacheReserved(1, key=b"key", revision=1), sent(1)],
            [asked(2, **SERIAL), m.ActionHeld(2, why="cache", reason="a1"), sent(2)],
            [won(1), won(2), *TAIL],
        ],
    ),
    # I25 no waiting on the dead
    "an action that waits for nobody": (
        "I25",
        [
            HEAD,
            [asked(1, **SERIAL), m.ActionHeld(1, why="cache", reason="a2")],
            [m.CacheReserved(1, key=b"key", revision=1), sent(1)],
            [won(1), *TAIL],
        ],
    ),
    "an action that waits on after the owner's end": (
        "I25",
        [
            HEAD,
            [asked(1, **SERIAL), m.CacheReserved(1, key=b"key", revision=1), sent(1)],
            [asked(2, **SERIAL), m.ActionHeld(2, why="cache", reason="a1")],
            [failed(1), ended(1)],
            [m.CacheReserved(2, key=b"key", revision=2), sent(2)],
            [won(2), *TAIL],
        ],
    ),
    # I26 the run's outcome
    "a run that ends before its root": ("I26 I15 I04", [HEAD, [over()]]),
    "a run that ends before a child": (
        "I26 I15 I04",
        [HEAD, [asked(1, policy=retrying(detached=True))], TAIL],
    ),
    "a run with another outcome than its root": (
        "I26",
        [HEAD, [won(0), over("FAILED")]],
    ),
    "a run that ends twice": ("I26", [HEAD, TAIL, [over()]]),
    "a request after the run's end": ("I26", [HEAD, TAIL, [asked(1)]]),
    "a run that ends as nothing": ("I26", [HEAD, [won(0), over("LOST")]]),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_auditor_names_the_invariant_that_a_mutant_breaks(name: str) -> None:
    expected, frames = MUTANTS[name]
    assert invariants(LogBuilder().runs(*frames).entries) == set(expected.split())


@pytest.mark.parametrize("name", MUTANTS)
def test_a_violation_says_which_run_and_where(name: str) -> None:
    _, frames = MUTANTS[name]
    for violation in audit(LogBuilder().runs(*frames).entries, quiescent=True).violations:
        assert violation.run == RUN
        assert 1 <= violation.rev <= sum(map(len, frames))
        assert violation.detail
