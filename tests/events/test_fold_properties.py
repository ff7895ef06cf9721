"""The fold under every event, in every order: total, deterministic, absorbing."""

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from log_builder import OTHER, RUN
from strategies import EVENT_TYPES, MadLeader, Steps, steps

from millstream_events import model as m
from millstream_events.audit import LogAudit
from millstream_events.audit_records import Standing
from millstream_events.check import check_state
from millstream_events.codec import encode
from millstream_events.fold import apply, fold_entry
from millstream_events.phases import ACCEPTS, PHASE_OF, State
from millstream_events.ports import LogEntry
from millstream_events.state import (
    ActionState,
    RunState,
    ShardState,
    collapse,
    state_hash,
)

_quick = settings(max_examples=20, deadline=None)
# Long logs take minutes to shrink; what fails here is found in a short form by the tests above.
_long = settings(max_examples=400, deadline=None, phases=(Phase.reuse, Phase.generate))


def replayed(entries: list[LogEntry], shard: ShardState | None = None) -> ShardState:
    shard = ShardState("lo00") if shard is None else shard
    for entry in entries:
        fold_entry(shard, entry)
    return shard


def written(given_steps: Steps) -> MadLeader:
    leader = MadLeader()
    for key, event, ends in given_steps:
        leader.take(key, event, ends=ends)
    leader.flush()
    return leader


def ends_of(shard: ShardState) -> dict[tuple[str, int], bytes]:
    return {
        (run.id, ordinal): encode(action)
        for run in shard.runs.values()
        for ordinal, action in enumerate(run.actions)
        if action.terminal
    }


def lasting(action: bytes) -> tuple[object, ...]:
    """What may never change after the end; children may still be added and end."""
    state = msgspec.msgpack.decode(action, type=ActionState)
    return (
        state.state,
        state.output,
        state.error,
        state.ended_rev,
        state.ended_ns,
        state.last_rev,
        state.attempt,
        state.token,
        state.history,
    )


def check_every_step(given_steps: Steps) -> None:
    leader = MadLeader()
    ended: dict[tuple[str, int], bytes] = {}
    for key, event, ends in given_steps:
        leader.take(key, event, ends=ends)
        assert check_state(leader.shard) == []
        now = ends_of(leader.shard)
        for place, before in ended.items():
            if place in now:
                assert lasting(now[place]) == lasting(before)
            else:
                assert place[0] not in leader.shard.runs
        ended = now
        for run in leader.shard.runs.values():
            assert not (run.finished and run.open_actions)


def check_replay(given_steps: Steps, cut: int) -> None:
    leader = written(given_steps)
    entries = leader.entries
    full = replayed(entries)
    assert state_hash(full) == state_hash(leader.shard)
    assert full.runs == leader.shard.runs
    cut %= len(entries) + 1
    head = replayed(entries[:cut])
    assert check_state(head) == []
    snapshot = msgspec.msgpack.decode(encode(head), type=ShardState)
    assert snapshot == head
    assert encode(replayed(entries[cut:], snapshot)) == encode(full)


def check_collapse(given_steps: Steps) -> None:
    kept, let_go = ShardState("lo00"), ShardState("lo00")
    for entry in written(given_steps).entries:
        fold_entry(kept, entry)
        fold_entry(let_go, entry)
        for run in let_go.runs.values():
            if run.finished:
                collapse(run)
        assert state_hash(kept) == state_hash(let_go)


def check_auditor_agrees(given_steps: Steps) -> None:
    """Auditor and fold decide separately what counts; they must come to the same."""
    entries = written(given_steps).entries
    auditor = LogAudit()
    shard = ShardState("lo00")
    for entry in entries:
        auditor.take(entry)
        fold_entry(shard, entry)
    for key, run in shard.runs.items():
        note = auditor._runs[key]
        if note.broken or run.quarantine:
            continue
        assert note.finished == run.finished
        assert note.voids == run.voids
        if run.finished:
            continue
        assert [
            (action.done, action.outcome, action.token, action.attempt) for action in note.actions
        ] == [
            (
                action.terminal,
                PHASE_OF[State(action.state)] if action.terminal else "",
                action.token,
                action.attempt,
            )
            for action in run.actions
        ]
        standings = [action.standing for action in note.actions]
        assert [standing is Standing.FALLING for standing in standings] == [
            action.state == State.FAILING for action in run.actions
        ]
    auditor.report(quiescent=True)


@_quick
@given(steps())
def test_no_sequence_of_events_breaks_the_state_or_changes_an_end(given_steps: Steps) -> None:
    check_every_step(given_steps)


@_quick
@given(steps(), st.integers(0, 1000))
def test_live_replay_and_snapshot_with_tail_give_the_same_state(
    given_steps: Steps, cut: int
) -> None:
    check_replay(given_steps, cut)


@_quick
@given(steps())
def test_letting_go_of_a_finished_run_changes_no_hash(given_steps: Steps) -> None:
    check_collapse(given_steps)


@_quick
@given(steps())
def test_the_auditor_and_the_fold_agree_on_what_counts(given_steps: Steps) -> None:
    check_auditor_agrees(given_steps)


@pytest.mark.slow
@_long
@given(steps(60), st.integers(0, 1000))
def test_all_properties_hold_for_many_long_logs(given_steps: Steps, cut: int) -> None:
    check_every_step(given_steps)
    check_replay(given_steps, cut)
    check_collapse(given_steps)
    check_auditor_agrees(given_steps)


# ------------------------------------------------------------------ pairs


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_an_event_counts_only_in_the_states_that_the_table_names(
    kind: type[m.Event], state: State
) -> None:
    shard = ShardState("lo00")
    run = shard.runs[RUN] = RunState(RUN)
    apply(shard, run, m.RunCreated(0, run=RUN), 1)
    action = run.actions[0]
    action.state = state
    action.token = b"token" if state in (State.DISPATCHED, State.RUNNING) else b""
    event = kind(0, action.attempt)
    if hasattr(event, "token"):
        event = msgspec.structs.replace(event, token=b"token")
    about_actions = kind in m.ActionEvent.__args__ and kind not in (
        m.ActionRequested,
        m.TraceRecorded,
        m.TimerSet,
        m.ConditionOpened,
    )
    effective = apply(shard, run, event, 2)
    if about_actions and state not in ACCEPTS[kind]:
        assert not effective
    if effective and about_actions:
        assert action.last_rev == run.rev
    assert run.voids == (not effective)


@pytest.mark.parametrize("kind", m.ActionEvent.__args__)
def test_an_event_about_an_action_that_is_not_there_is_void(kind: type[m.Event]) -> None:
    shard = ShardState("lo00")
    run = shard.runs[OTHER] = RunState(OTHER)
    for ordinal in (0, 5, -1):
        assert not apply(shard, run, kind(ordinal), 1)
    apply(shard, run, m.RunCreated(0), 1)
    assert not apply(shard, run, kind(-1), 1)
    assert check_state(shard) == []


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_event_has_a_rule(kind: type[m.Event]) -> None:
    from millstream_events import audit_rules, fold, fold_actions

    rules = {**fold._RUN_RULES, **fold_actions._RULES, **fold._SHARD_RULES}
    assert kind in rules
    assert (kind in audit_rules.RULES) == (kind not in m.ShardEvent.__args__)
