"""Audit rules about runs and about actions that come into being (I02, I07, I09-I15, I22, I26)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from millstream_events import model as m
from millstream_events.audit_graphs import judge_node, plan_note
from millstream_events.audit_judge import Judge
from millstream_events.audit_records import (
    NAMED_MAX,
    ActionNote,
    Identity,
    Standing,
    value_hash,
)
from millstream_events.ids import ROOT_ID
from millstream_events.phases import SUCCESS_PHASES, TERMINAL_PHASES, Phase
from millstream_events.values import Policy

# ------------------------------------------------------------------ the run


def _created(judge: Judge, event: m.RunCreated) -> bool:
    note = judge.note
    if note.actions:
        judge.breach("I02", "a run is created once")
        return False
    root = ActionNote(event.kind or "task", 0, Standing.READY, event.policy)
    root.plan = plan_note(event.kind, event.inputs)
    root.cache_key = event.cache_key
    note.place = event.project, event.domain
    note.scoped = ("cache_scope", "project-domain") in event.settings
    note.actions.append(root)
    note.ids[ROOT_ID] = (root.kind, 0, event.task.name, event.task.identity, b"", "", 0)
    note.open = 1
    return True


def _run_abort_requested(judge: Judge, event: m.RunAbortRequested) -> bool:
    note = judge.note
    if note.aborting:
        return False
    note.aborting = True
    note.abort_timed_out = event.timed_out
    if not note.actions:
        return True
    root = note.actions[0]
    if not root.done and not root.aborted:
        note.untold[0] = note.tick
    judge.cover(0, everything=True)
    return True


def _run_finished(judge: Judge, event: m.RunFinished) -> bool:
    note = judge.note
    note.claimed = True
    if not note.actions:
        judge.breach("I26", "the run ended without having begun")
        return False
    if note.open:
        judge.breach("I26", f"the run ended with {note.open} actions open")
        left = [ordinal for ordinal, action in enumerate(note.actions) if not action.done]
        for ordinal in left[:NAMED_MAX]:
            standing = note.actions[ordinal].standing.value
            judge.breach("I15", f"a{ordinal} was {standing} when the run ended")
        return False
    if event.phase not in TERMINAL_PHASES:
        judge.breach("I26", f"{event.phase!r} is no outcome")
        return False
    root = note.actions[0]
    outcome = Phase.SUCCEEDED if root.outcome in SUCCESS_PHASES else root.outcome
    deadline = note.abort_timed_out and event.phase == Phase.TIMED_OUT
    if event.phase != outcome and not (deadline and outcome == Phase.ABORTED):
        judge.breach("I26", f"the root is {outcome}, the run {event.phase}")
    elif outcome == Phase.SUCCEEDED and value_hash(event.output) != root.output:
        judge.breach("I07", "the run's output is not its root's")
    note.finished = True
    return True


def _paused(judge: Judge, event: m.RunPaused) -> bool:
    del event
    changed = not judge.note.paused
    judge.note.paused = True
    return changed


def _resumed(judge: Judge, event: m.RunResumed) -> bool:
    del event
    changed = judge.note.paused
    judge.note.paused = False
    return changed


def _annotated(judge: Judge, event: m.RunAnnotated) -> bool:
    if event.value is None:
        return True
    return judge.known(event) is not None and len(event.entries) == 1


# ------------------------------------------------------------------ new actions


def _action_requested(judge: Judge, event: m.ActionRequested) -> bool:
    identity: Identity = (
        event.kind,
        event.parent,
        event.task.name,
        event.task.identity,
        event.inputs_hash,
        event.group,
        event.k,
    )
    born = _birth(judge, event, identity, Standing.READY, event.policy)
    if born is None:
        return False
    born.cache_key = event.cache_key
    born.items = event.items
    if (event.kind == "map") != (event.items > 0):
        judge.breach("I15", f"a{event.action} is a {event.kind} of {event.items} items")
    born.plan = plan_note(event.kind, event.inputs)
    if event.node:
        judge_node(judge, event)
    return True


def _timer_set(judge: Judge, event: m.TimerSet) -> bool:
    identity: Identity = ("timer", event.parent, "", event.id, b"", "", 0)
    return _birth(judge, event, identity, Standing.WAITING, None) is not None


def _condition_opened(judge: Judge, event: m.ConditionOpened) -> bool:
    identity: Identity = ("condition", event.parent, event.name, event.id, b"", "", 0)
    return _birth(judge, event, identity, Standing.WAITING, None) is not None


def _birth(
    judge: Judge,
    event: m.ActionRequested | m.TimerSet | m.ConditionOpened,
    identity: Identity,
    standing: Standing,
    policy: Policy | None,
) -> ActionNote | None:
    note = judge.note
    if event.id in note.ids:
        if note.ids[event.id] != identity and event.parent not in note.diverged:
            judge.breach("I13", f"the id of a{event.action} stands for another call already")
        return None  # F9: a replayed parent asks again.
    parent = _parent(judge, event)
    if parent is None:
        return None
    if judge.barred(parent):
        judge.breach("I09", f"a{event.action} is requested below an abort")
        if parent.aborted or note.aborting:
            return None
    if not parent.token and parent.standing is not Standing.WALKING:
        judge.breach("I12", f"a{event.parent} asks for a{event.action} but does not run")
        if parent.done and not (policy is not None and policy.detached):
            return None
    is_node = isinstance(event, m.ActionRequested) and event.node != 0
    if is_node and parent.standing is not Standing.WALKING:
        judge.breach("I12", f"a{event.action} is a node, but a{event.parent} walks no plan")
        return None
    twin = note.calls.setdefault(identity, event.id)
    if twin != event.id and event.parent not in note.diverged:
        judge.breach("I13", f"the call of a{event.action} has another id already")
    note.ids[event.id] = identity
    born = ActionNote(identity[0], event.parent, standing, policy)
    born.covered = parent.covered
    parent.children.append(event.action)
    note.actions.append(born)
    note.open += 1
    return born


def _parent(
    judge: Judge,
    event: m.ActionRequested | m.TimerSet | m.ConditionOpened | m.TraceRecorded,
) -> ActionNote | None:
    following = len(judge.note.actions)
    if event.action != following:
        judge.breach("I13", f"a{event.action} is new, but a{following} comes next")
        return None
    parent = judge.action(event.parent)
    if parent is None:
        judge.breach("I12", f"a{event.action} has the parent a{event.parent}, which is not there")
    return parent


def _trace_recorded(judge: Judge, event: m.TraceRecorded) -> bool:
    note = judge.note
    failure = b"" if event.error is None else event.error.message.encode()
    content = value_hash(event.output) + failure
    identity: Identity = ("trace", event.parent, event.name, b"", event.inputs_hash, "", 0)
    if event.id in note.ids:
        if note.ids[event.id] != identity or note.traces.get(event.id) != content:
            judge.breach("I22", f"step {event.name!r} of a{event.parent} was recorded otherwise")
        return False
    parent = _parent(judge, event)
    if parent is None:
        return False
    if not event.token or event.token != parent.token:
        if event.token in note.tokens:
            judge.breach("I22", f"step {event.name!r} is of a superseded attempt")
        else:
            judge.breach("I12", f"step {event.name!r} is of an attempt that never was")
        return False
    note.ids[event.id] = identity
    note.traces[event.id] = content
    step = ActionNote("trace", event.parent, Standing.DONE)
    step.outcome = Phase.FAILED if event.error is not None else Phase.SUCCEEDED
    parent.children.append(event.action)
    note.actions.append(step)
    return True


BIRTH_RULES: Final[Mapping[type[m.Event], Callable[[Judge, Any], bool]]] = {
    m.RunCreated: _created,
    m.RunPaused: _paused,
    m.RunResumed: _resumed,
    m.RunAbortRequested: _run_abort_requested,
    m.RunFinished: _run_finished,
    m.RunAnnotated: _annotated,
    m.ActionRequested: _action_requested,
    m.TraceRecorded: _trace_recorded,
    m.ConditionOpened: _condition_opened,
    m.TimerSet: _timer_set,
}
