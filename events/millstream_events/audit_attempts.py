"""Audit rules about attempts: dispatch, reports, retries (I02, I05, I06, I08, I09, I12)."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from millstream_events import model as m
from millstream_events.audit_cache import keep
from millstream_events.audit_judge import Judge, count_items, name_of
from millstream_events.audit_records import ActionNote, Standing, value_hash
from millstream_events.phases import Phase

_Report: TypeAlias = (
    m.AttemptStarted
    | m.AttemptSucceeded
    | m.AttemptFailed
    | m.AttemptLost
    | m.AttemptParked
    | m.AttemptEvicted
    | m.AttemptReturned
    | m.StreamItem
)


def _dispatched(judge: Judge, event: m.AttemptDispatched) -> bool:
    action = judge.known(event)
    if action is None:
        return False
    tokens = judge.note.tokens
    known_token = not event.token or event.token in tokens
    tokens.add(event.token)
    fault = _dispatch_fault(judge, event, action)
    if fault is not None:
        judge.breach(*fault)
        return False
    # From here on the fold takes it, and so the judge goes on from there.
    if action.covered:
        judge.breach("I09", f"a{event.action} is dispatched below an abort")
    if known_token:
        judge.breach("I06", f"a{event.action} is dispatched under a token that is no new one")
        if not event.token:
            return False
    if action.awaits_key:
        judge.breach("I24", f"a{event.action} runs, though it waits for another to compute its key")
        action.awaits_key = False
    action.standing = Standing.OUT
    action.token = action.last_token = event.token
    action.started = False
    return True


def _dispatch_fault(
    judge: Judge, event: m.AttemptDispatched, action: ActionNote
) -> tuple[str, str] | None:
    name = f"a{event.action}"
    if action.done:
        return "I05", f"{name} is dispatched after its end"
    if action.aborted or judge.note.aborting:
        return "I09", f"{name} is dispatched after its abort"
    if action.standing is Standing.OUT:
        return "I02", f"{name} is dispatched twice, and nothing lies between"
    if action.standing is not Standing.READY:
        return "I08", f"{name} is dispatched while {action.standing.value}"
    if event.attempt != action.attempt:
        return "I08", f"{name} is dispatched as attempt {event.attempt}, not {action.attempt}"
    return None


def _current(
    judge: Judge,
    event: _Report,
) -> ActionNote | None:
    """Return the action if the report is about its current attempt (rule F6)."""
    action = judge.known(event)
    if action is None:
        return None
    if event.token not in judge.note.tokens:
        judge.breach("I12", f"{name_of(event)} of an attempt of a{event.action} that never was")
        return None
    if not action.token or event.token != action.token:
        return None
    if event.attempt != action.attempt:
        judge.breach(
            "I06",
            f"{name_of(event)} of attempt {event.attempt} counts, but a{event.action} is in "
            f"attempt {action.attempt}",
        )
    return action


def _started(judge: Judge, event: m.AttemptStarted) -> bool:
    action = _current(judge, event)
    if action is None or action.standing is not Standing.OUT or action.started:
        return False
    if judge.barred(action):
        judge.breach("I09", f"a{event.action} started after its abort")
    action.started = True
    return True


def _succeeded(judge: Judge, event: m.AttemptSucceeded) -> bool:
    before = judge.action(event.action)
    output = value_hash(event.output)
    if before is not None and before.done and event.token == before.last_token:
        if before.outcome == Phase.SUCCEEDED and output != before.output:
            judge.breach("I07", f"a{event.action} succeeded already, with another output")
        return False
    action = _current(judge, event)
    if action is None or action.standing is not Standing.OUT:
        return False  # F7: after an abort it is kept as discarded.
    if judge.barred(action):
        judge.breach("I09", f"a{event.action} succeeded after its abort")
    count_items(judge, event, action)
    judge.end(event.action, action, Phase.SUCCEEDED, output)
    if action.cache_key:
        keep(judge, event.action, action, output)
    return True


def _failed(judge: Judge, event: m.AttemptFailed) -> bool:
    action = _current(judge, event)
    return action is not None and _fall(judge, event.action, action, event.error.retryable)


def _lost(judge: Judge, event: m.AttemptLost) -> bool:
    action = _current(judge, event)
    # What may be started once only is not tried again when nobody knows whether it ran.
    return action is not None and _fall(judge, event.action, action, action.policy.idempotent)


def _fall(judge: Judge, ordinal: int, action: ActionNote, retryable: bool) -> bool:
    if action.standing is Standing.ABORTING:
        action.token = b""
        return True
    if action.standing is not Standing.OUT:
        return False
    judge.fall(ordinal, action, retryable=retryable)
    return True


def _evicted(judge: Judge, event: m.AttemptEvicted) -> bool:
    action = _current(judge, event)
    return action is not None and _stand_up(action)


def _returned(judge: Judge, event: m.AttemptReturned) -> bool:
    action = _current(judge, event)
    return action is not None and not action.started and _stand_up(action)


def _stand_up(action: ActionNote) -> bool:
    if action.standing is not Standing.OUT:
        return False
    action.standing = Standing.READY
    action.token = b""
    return True


def _reported(judge: Judge, event: m.AttemptParked) -> bool:
    action = _current(judge, event)
    return action is not None and action.standing is Standing.OUT


def _streamed(judge: Judge, event: m.StreamItem) -> bool:
    action = _current(judge, event)
    if action is None or action.standing is not Standing.OUT or event.index != action.streamed:
        return False
    action.streamed += 1
    return True


def _retry_scheduled(judge: Judge, event: m.RetryScheduled) -> bool:
    action = judge.known(event)
    if action is None:
        return False
    name = f"a{event.action}"
    if action.done:
        judge.breach("I05", f"{name} is retried after its end")
        return False
    if action.aborted:
        judge.breach("I09", f"{name} is retried after its abort")
        return False
    if action.standing is not Standing.FALLING:
        judge.breach("I08", f"{name} is retried while {action.standing.value}")
        return False
    if event.attempt != action.attempt + 1:
        judge.breach("I08", f"{name}: attempt {event.attempt} follows {action.attempt}")
        return False
    if judge.barred(action):
        judge.breach("I09", f"{name} is retried below an abort")
    if not action.retryable:
        judge.breach("I08", f"{name} is retried after an error that allows no retry")
    if event.budget == "system":
        action.paid_system += 1
    else:
        action.paid_user += 1
    policy = action.policy
    if action.paid_user > policy.retries or action.paid_system > policy.system_retries:
        judge.breach("I08", f"{name} is retried, but its {event.budget} budget is used up")
    action.attempt = event.attempt
    action.standing = Standing.BACKOFF if event.due_ms else Standing.READY
    judge.note.falling.pop(event.action, None)
    return True


ATTEMPT_RULES: Final[Mapping[type[m.Event], Callable[[Judge, Any], bool]]] = {
    m.AttemptDispatched: _dispatched,
    m.AttemptStarted: _started,
    m.AttemptSucceeded: _succeeded,
    m.AttemptFailed: _failed,
    m.AttemptLost: _lost,
    m.AttemptParked: _reported,
    m.AttemptEvicted: _evicted,
    m.AttemptReturned: _returned,
    m.StreamItem: _streamed,
    m.RetryScheduled: _retry_scheduled,
}
