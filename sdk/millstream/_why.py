"""Why an action is where it is: the causes of each step, as the log alone tells them.

Every event names the revision that caused it, so the events of a run are a graph. `explain` says
in words what happened to one action, and follows the causes of the last step to where they begin.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from millstream._views import Json, View, show_time
from millstream_events import model as m
from millstream_events.codec import decode_frame
from millstream_events.errors import LogCorruptError
from millstream_events.ids import show_action
from millstream_events.model import Event, Frame
from millstream_events.phases import State
from millstream_events.ports import LogEntry
from millstream_events.state import ActionState, RunState
from millstream_events.values import ErrorRecord, Policy

#: Longest walk from an event to the first cause.
CHAIN_STEPS_MAX: Final = 200
#: A wait below it needs no reason.
WAIT_MS_MIN: Final = 20

#: Words of `AttemptLost.why`.
_LOST: Final[Mapping[str, str]] = {
    "worker-crashed": "its worker process died",
    "agent-restarted": "its agent was started again, and its workers with it",
    "agent-silent": "its agent was not heard of for too long",
    "nack": "its agent gave it back after it had begun",
    "not-adopted": "no agent knew of it after a new leader took over",
}
#: Words of `AttemptReturned.why`.
_RETURNED: Final[Mapping[str, str]] = {
    "busy": "had no slot left",
    "draining": "was about to leave",
    "memory": "had too little memory left",
    "unknown-bundle": "could not get the code",
    "unknown-environment": "could not get the environment",
    "old-epoch": "followed another leader already",
    "never-arrived": "never got it",
}
#: Words of `ActionAbortRequested.why`.
_ABORTED: Final[Mapping[str, str]] = {
    "user": "somebody asked for it",
    "parent-ended": "its caller had ended",
    "parent-aborted": "its caller was aborted",
    "run-aborted": "the whole run was aborted",
    "cancelled": "its caller cancelled the call",
    "deadline": "its deadline came",
}


class Recorded(NamedTuple):
    """An event, and its place in the run and in time."""

    seq: int
    rev: int
    ts_ns: int
    event: Event


class Wait(NamedTuple):
    """An attempt that was ready and not dispatched for a while; to be explained from the shard."""

    #: Of the record that made it ready, and of the one that dispatched it; 0: not yet.
    ready_seq: int
    dispatched_seq: int
    attempt: int
    ready_ns: int
    dispatched_ns: int


def recorded(entries: Sequence[LogEntry]) -> list[Recorded]:
    """Return the events of a run, in order; records that cannot be read are left out."""
    found: list[Recorded] = []
    for entry in entries:
        try:
            frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
        except LogCorruptError:
            continue
        if isinstance(frame, Frame):
            found += [
                Recorded(entry.seq, frame.rev + index, frame.ts_ns, event)
                for index, event in enumerate(frame.events)
            ]
    return found


def waits_of(events: Sequence[Recorded], ordinal: int) -> list[Wait]:
    """Return the waits of an action for a slot, those that took a while or go on."""
    found: list[Wait] = []
    ready: Recorded | None = None
    attempt = 1
    for each in events:
        if each.event.action != ordinal:
            continue
        match each.event:
            case m.RunCreated() | m.ActionRequested() | m.AttemptReturned():
                ready = each
            case m.RetryScheduled(attempt=number, due_ms=due_ms):
                attempt, ready = number, each._replace(ts_ns=max(each.ts_ns, due_ms * 1_000_000))
            case m.AttemptDispatched(attempt=number):
                if ready is not None and each.ts_ns - ready.ts_ns >= WAIT_MS_MIN * 1_000_000:
                    found.append(Wait(ready.seq, each.seq, number, ready.ts_ns, each.ts_ns))
                ready = None
            case m.CacheHit() | m.ActionRecovered() | m.ActionFinished():
                ready = None
            case _:
                pass
    if ready is not None:
        found.append(Wait(ready.seq, 0, attempt, ready.ts_ns, 0))
    return found


def explain(
    run: RunState, events: Sequence[Recorded], ordinal: int, reasons: Mapping[int, list[str]]
) -> View:
    """Return what happened to an action and why.

    Args:
        run: The run, folded.
        events: All of its events.
        ordinal: The action.
        reasons: Attempt -> what spoke against its dispatch while it waited.
    """
    action = run.actions[ordinal]
    own = [each for each in events if each.event.action == ordinal and _is_own(each.event)]
    steps: list[Json] = []
    dispatched_after = {wait.attempt: wait for wait in waits_of(events, ordinal)}
    for each in own:
        step = _step(each, action.rules)
        wait = dispatched_after.get(each.event.attempt)
        if isinstance(each.event, m.AttemptDispatched) and wait is not None:
            step["waited_ms"] = (wait.dispatched_ns - wait.ready_ns) // 1_000_000
            step["waited_for"] = [*reasons.get(wait.attempt, [])]
        steps.append(step)
    return {
        "run": run.name or run.id,
        "action": show_action(ordinal),
        "task": action.task.name,
        "phase": str(action.phase),
        "answer": _answer(run, action, own, reasons),
        "cache": _cache(action),
        "steps": steps,
        "causes": _chain(run, own[-1], events) if own else [],
    }


def _cache(action: ActionState) -> Json:
    if not action.cache_key:
        return None
    taken = "an earlier result was taken"
    word = "its result is stored, none is looked up" if action.cache_mode == 1 else "none was there"
    return {"key": action.cache_key.hex(), "text": taken if action.cached else word}


def _is_own(event: Event) -> bool:
    # Of the run, not of its root.
    return not isinstance(event, m.RunAnnotated | m.RunPaused | m.RunResumed)


def _step(each: Recorded, policy: Policy) -> View:
    return {
        "rev": each.rev,
        "ts": show_time(each.ts_ns),
        "type": type(each.event).__name__,
        "action": show_action(each.event.action),
        "attempt": each.event.attempt or None,
        "text": say(each.event, policy),
        "cause": each.event.cause or None,
        "source": each.event.source.hex() or None,
    }


def _chain(run: RunState, last: Recorded, events: Sequence[Recorded]) -> list[Json]:
    """Return the causes of an event, nearest first, to the one that came from outside."""
    by_rev = {each.rev: each for each in events}
    found: list[Json] = []
    cause = by_rev.get(last.event.cause)
    while cause is not None and len(found) < CHAIN_STEPS_MAX:
        found.append(_step(cause, run.actions[cause.event.action].rules))
        # A cause lies before what it causes; anything else would be no log of ours.
        earlier = cause.event.cause if cause.event.cause < cause.rev else 0
        cause = by_rev.get(earlier)
    return found


# ------------------------------------------------------------------ in words


def say(event: Event, policy: Policy) -> str:
    """Return an event in words."""
    match event:
        case m.ActionRequested(parent=parent, kind=kind):
            return f"{show_action(parent)} asked for it ({kind})"
        case m.ActionHeld(reason=reason):
            return f"held: {reason}"
        case m.CacheHit(source_run=source, source_action=number):
            return f"the result of {show_action(number)} of {source} was taken: the same cache key"
        case m.CacheReserved():
            return "it computes its cache key alone; the same calls wait for it"
        case m.ActionRecovered(source_run=source, source_action=number):
            return f"the result of {show_action(number)} of {source} was taken over by the recovery"
        case m.RetryScheduled() | m.TimerFired() | m.ActionAbortRequested():
            return _say_decision(event, policy)
        case m.ActionFinished(phase=phase, error=error):
            return f"ended {phase}" + (f": {_short(error)}" if error is not None else "")
        case m.RunCreated() | m.RunFinished() | m.RunAbortRequested():
            return _say_run(event)
        case m.TraceRecorded(name=name):
            return f"the step {name} was recorded"
        case m.ConditionOpened(name=name):
            return f"it asks {name!r} and waits for an answer"
        case m.ConditionSignalled(who=who):
            return f"{who or 'somebody'} answered"
        case m.DivergenceDetected(policy=handled):
            return f"a replay asked for something else than was recorded ({handled})"
        case _:
            return _say_attempt(event)


def _say_run(event: m.RunCreated | m.RunFinished | m.RunAbortRequested) -> str:
    match event:
        case m.RunCreated(who=who, fired=fired):
            by = f"a trigger ({fired.trigger})" if fired is not None else who or "a client"
            return f"the run was accepted from {by}"
        case m.RunFinished(phase=phase):
            return f"the run ended {phase}"
        case m.RunAbortRequested(who=who, why=why, timed_out=timed_out):
            told = f": {why}" if why else ""
            return "the run's deadline came" if timed_out else f"{who or 'somebody'} aborted{told}"


def _say_attempt(event: Event) -> str:
    match event:
        case m.AttemptDispatched(pool=pool, agent=agent):
            return f"given to agent {agent} of pool {pool}"
        case m.AttemptStarted(worker=worker, pid=pid):
            return f"began in worker {worker or '?'} (pid {pid})"
        case m.AttemptSucceeded():
            return "returned"
        case m.AttemptFailed(error=error):
            return f"failed ({error.kind}): {_short(error)}"
        case m.AttemptLost(why=why, silence_ms=silence_ms, limit_ms=limit_ms):
            measured = f" ({silence_ms} ms, the limit is {limit_ms} ms)" if silence_ms else ""
            return f"lost: {_LOST.get(why, why)}{measured}"
        case m.AttemptReturned(why=why):
            return f"not started: the agent {_RETURNED.get(why, why)}; it costs no attempt"
        case m.AttemptParked():
            return "waits for what it called, without a slot"
        case m.AttemptEvicted():
            return "left memory while it waited; it comes back with its journal"
        case _:
            return type(event).__name__


def _say_decision(event: Event, policy: Policy) -> str:
    match event:
        case m.RetryScheduled(attempt=attempt, budget=budget, due_ms=due_ms):
            most = policy.system_retries if budget == "system" else policy.retries
            paid = f"{'system_retries' if budget == 'system' else 'retries'}={most}"
            when = f", not before {show_time(due_ms * 1_000_000)}" if due_ms else ""
            return f"attempt {attempt} was decided, paid by {paid}{when}"
        case m.TimerFired(what=what):
            limits = {
                "runtime": f"max_runtime={policy.runtime_max_ms} ms",
                "queued": f"max_queued_time={policy.queued_max_ms} ms",
                "deadline": f"deadline={policy.deadline_ms} ms",
            }
            return f"the time for {what} came" + (f" ({limits[what]})" if what in limits else "")
        case m.ActionAbortRequested(who=who, why=why, reason=reason):
            by = f" ({who})" if who else ""
            told = f": {reason}" if reason else ""
            return f"abort: {_ABORTED.get(why, why)}{by}{told}"
        case _:
            return type(event).__name__


def _short(error: ErrorRecord | None) -> str:
    return "" if error is None else f"{error.type}: {' '.join(error.message.split())[:200]}"


# ------------------------------------------------------------------ the answer


def _answer(
    run: RunState,
    action: ActionState,
    own: Sequence[Recorded],
    reasons: Mapping[int, list[str]],
) -> str:
    """Return the one sentence that matters most."""
    last = next((each.event for each in reversed(own)), None)
    if action.terminal:
        return _ended(action, own)
    if run.paused and not action.live:
        return "it waits: the run is paused (millstream resume run)"
    if action.state == State.HELD:
        return f"it is held: {action.held}"
    if action.state == State.BACKOFF:
        return f"it waits for attempt {action.attempt} until {show_time(action.due_ms * 1_000_000)}"
    if action.open_children:
        waiting = [
            show_action(child) for child in action.children if not run.actions[child].terminal
        ]
        return f"it waits for what it called: {', '.join(waiting[:8])}"
    if action.state == State.READY:
        why = "; ".join(reasons.get(action.attempt, []))
        return f"it waits for a slot: {why or 'nothing in the log speaks against it'}"
    return f"attempt {action.attempt}: {say(last, action.rules)}" if last is not None else ""


def _ended(action: ActionState, own: Sequence[Recorded]) -> str:
    failures = [each.event for each in own if isinstance(each.event, m.AttemptFailed)]
    losses = [each.event for each in own if isinstance(each.event, m.AttemptLost)]
    for each in own:
        if isinstance(each.event, m.CacheHit | m.ActionRecovered):
            return say(each.event, action.rules)
    counts = [
        f"{len(events)} {word}"
        for events, word in ((failures, "failed"), (losses, "lost"))
        if events
    ]
    after = f" after {' and '.join(counts)}" if counts else ""
    if action.state == State.SUCCEEDED:
        return f"it succeeded in attempt {action.attempt}{after}"
    asked = [each for each in own if isinstance(each.event, m.ActionAbortRequested)]
    if asked:
        return say(asked[0].event, action.rules)
    error = action.error
    if error is not None and not error.retryable and len(failures) <= action.rules.retries:
        return f"it failed for good, since {error.type} is not retried: {_short(error)}"
    rules = action.rules
    left = f"retries={rules.retries}" + (
        f", system_retries={rules.system_retries}" if losses else ""
    )
    return f"it failed{after}, and no attempt is left ({left}): {_short(error)}"
