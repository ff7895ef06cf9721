"""Audit rules about how actions end: outcomes, aborts, timers (I04, I05, I07, I09-I11)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from millstream_events import model as m
from millstream_events.audit_cache import CACHE_RULES, wait
from millstream_events.audit_judge import Judge, count_items, ended_already
from millstream_events.audit_records import ActionNote, Standing, value_hash
from millstream_events.phases import FINISHED_STATE, SUCCESS_PHASES, TERMINAL_PHASES, Phase

# ------------------------------------------------------------------ ends


def _recovered(judge: Judge, event: m.ActionRecovered) -> bool:
    action = judge.known(event)
    if action is None or ended_already(judge, event, action):
        return False
    waiting = action.standing is Standing.WAITING and action.kind == "condition"
    if not waiting and action.standing is not Standing.READY:
        return False
    if judge.barred(action):
        judge.breach("I09", f"a{event.action} is recovered after its abort")
    count_items(judge, event, action)
    judge.end(event.action, action, Phase.RECOVERED, value_hash(event.output))
    return True


def _action_finished(judge: Judge, event: m.ActionFinished) -> bool:
    action = judge.known(event)
    if action is None or ended_already(judge, event, action):
        return False
    name = f"a{event.action}"
    if event.phase not in FINISHED_STATE:
        judge.breach("I04", f"{name} ends as {event.phase!r}, which is no end")
        return False
    timed_out = action.timed_out or judge.note.abort_timed_out
    if judge.barred(action):
        late = event.phase == Phase.TIMED_OUT and not timed_out
        if event.phase == Phase.FAILED or late:
            judge.breach("I10", f"{name} was aborted, and ends {event.phase}")
    elif event.phase == Phase.ABORTED:
        judge.breach("I11", f"{name} ends {event.phase}, but nobody aborted it")
    judge.end(event.action, action, event.phase)
    return True


def _abort_requested(judge: Judge, event: m.ActionAbortRequested) -> bool:
    action = judge.known(event)
    if action is None:
        return False
    if action.done:
        judge.breach("I05", f"a{event.action} is aborted after its end")
        return False
    if action.aborted:
        return False
    parent = judge.note.actions[action.parent]
    reasons = {
        "parent-aborted": parent.aborted,
        "parent-ended": parent.done,
        "run-aborted": judge.note.aborting,
    }
    if not reasons.get(event.why, True):
        judge.breach("I11", f"a{event.action} is aborted as {event.why}, which is not so")
    action.aborted = True
    action.timed_out = event.timed_out
    action.standing = Standing.ABORTING
    judge.note.falling.pop(event.action, None)
    judge.note.untold.pop(event.action, None)
    judge.cover(event.action)
    return True


def _signalled(judge: Judge, event: m.ConditionSignalled) -> bool:
    action = judge.known(event)
    if action is None or action.kind != "condition" or action.standing is not Standing.WAITING:
        return False
    if judge.barred(action):
        judge.breach("I09", f"a{event.action} is answered after its abort")
    judge.end(event.action, action, Phase.SUCCEEDED, value_hash(event.value))
    return True


def _timer_fired(judge: Judge, event: m.TimerFired) -> bool:
    action = judge.known(event)
    if action is None:
        return False
    what = event.what
    if what in ("timer", "condition"):
        if ended_already(judge, event, action) or action.kind != what:
            return False
        return _time_came(judge, event.action, action)
    if what in ("deadline", "grace", "run-deadline"):
        return not action.done
    if action.done:
        judge.breach("I05", f"a {what} timer of a{event.action} fires after its end")
    if what == "backoff" and action.standing is Standing.BACKOFF:
        action.standing = Standing.READY
        return True
    if what == "queued" and action.standing is Standing.READY:
        judge.fall(event.action, action, retryable=True)
        return True
    if what == "runtime" and action.standing is Standing.OUT:
        judge.fall(event.action, action, retryable=True)
        return True
    return False


def _time_came(judge: Judge, ordinal: int, action: ActionNote) -> bool:
    if action.standing is not Standing.WAITING:
        return False
    if action.kind == "condition":
        judge.end(ordinal, action, Phase.TIMED_OUT)
        return True
    if judge.barred(action):
        judge.breach("I09", f"a{ordinal} fires after its abort")
    judge.end(ordinal, action, Phase.SUCCEEDED)
    return True


# ------------------------------------------------------------------ the rest


def _held(judge: Judge, event: m.ActionHeld) -> bool:
    action = judge.known(event)
    if action is not None and action.done:
        judge.breach("I05", f"a{event.action} is held after its end")
    if action is None or action.standing is not Standing.READY:
        return False
    if event.why == "cache":
        wait(judge, event.action, action)
    return True


def _linked(judge: Judge, event: m.ChildRunLinked) -> bool:
    action = judge.known(event)
    if action is None or action.kind != "childrun" or action.standing is not Standing.READY:
        return False
    action.standing = Standing.WAITING
    return True


def _child_run_finished(judge: Judge, event: m.ChildRunFinished) -> bool:
    action = judge.known(event)
    if action is None or action.kind != "childrun" or event.phase not in TERMINAL_PHASES:
        return False
    if action.standing not in (Standing.READY, Standing.WAITING):
        return False
    if judge.barred(action) and event.phase in SUCCESS_PHASES:
        judge.breach("I09", f"a{event.action} succeeds after its abort")
    outcome = Phase.SUCCEEDED if event.phase in SUCCESS_PHASES else event.phase
    judge.end(event.action, action, outcome, value_hash(event.output))
    return True


def _diverged(judge: Judge, event: m.DivergenceDetected) -> bool:
    judge.note.diverged.add(event.action)
    return _marked(judge, event)


def _marked(judge: Judge, event: m.DivergenceDetected | m.GroupOpened | m.GroupClosed) -> bool:
    action = judge.known(event)
    return action is not None and action.standing is Standing.OUT


END_RULES: Final[Mapping[type[m.Event], Callable[[Judge, Any], bool]]] = {
    **CACHE_RULES,
    m.ActionHeld: _held,
    m.ActionRecovered: _recovered,
    m.ActionFinished: _action_finished,
    m.ActionAbortRequested: _abort_requested,
    m.ConditionSignalled: _signalled,
    m.TimerFired: _timer_fired,
    m.ChildRunLinked: _linked,
    m.ChildRunFinished: _child_run_finished,
    m.DivergenceDetected: _diverged,
    m.GroupOpened: _marked,
    m.GroupClosed: _marked,
}
