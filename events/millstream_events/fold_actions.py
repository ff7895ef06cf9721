"""What each event does to the action it is about. Part of the fold: only `fold.apply` calls it.

Every rule gets the action in a state that `phases.ACCEPTS` allows, and answers whether the
event took effect. A rule changes the action, its counters in the run and its parent, and for
a success the shard's cache, its reservations and what is to be published; nothing else.
"""

from collections.abc import Callable, Mapping
from sys import intern
from typing import Any, Final, NamedTuple

from millstream_events import model as m
from millstream_events.fold_artifacts import note_produced
from millstream_events.phases import ACCEPTS, FINISHED_STATE, SUCCESS_PHASES, State
from millstream_events.sharing import with_one_codec
from millstream_events.state import (
    ActionState,
    AttemptRecord,
    CacheEntry,
    Flight,
    RunState,
    ShardState,
    flight_key,
    owner_of,
    scoped_key,
)
from millstream_events.values import SYSTEM_KINDS, Items

_LIVE: Final = (State.DISPATCHED, State.RUNNING)


class Place(NamedTuple):
    """Where in the log the event being applied stands, and whose it is."""

    shard: ShardState
    run: RunState
    ts_ns: int
    rev: int


def apply_to_action(place: Place, event: m.Event) -> bool:
    """Fold an event about an action that exists; False: it is void."""
    run = place.run
    if not 0 <= event.action < len(run.actions):
        return False
    action = run.actions[event.action]
    kind = type(event)
    if action.state not in ACCEPTS.get(kind, ()):
        if kind is m.AttemptSucceeded:
            _keep_discarded(action, event)
        return False
    # F6: attempt events count only under the token of the current dispatch.
    token = getattr(event, "token", None)
    reports = token is not None and kind is not m.AttemptDispatched
    if reports and (not token or token != action.token):
        return False
    effective = _RULES[kind](place, action, event)
    if effective:
        action.last_rev = place.rev
    return effective


def count_terminal(run: RunState, state: State) -> None:
    """Count one more action that ended in `state`."""
    if state in (State.SUCCEEDED, State.RECOVERED):
        run.succeeded += 1
    elif state in (State.FAILED, State.TIMED_OUT):
        run.failed += 1
    else:
        run.aborted += 1


def _keep_discarded(action: ActionState, event: m.Event) -> None:
    # F7: a success after the abort is not lost; people may choose it by hand.
    if isinstance(event, m.AttemptSucceeded) and not action.terminal:
        action.discarded = event.output


def _leave(run: RunState, action: ActionState) -> None:
    """Take the current dispatch away, so that no report under its token counts any more."""
    if action.token:
        run.live_actions -= 1
    action.token = b""
    action.parked = False


def _end(place: Place, action: ActionState, state: State) -> None:
    run = place.run
    _leave(run, action)
    action.state = state
    action.ended_ns = place.ts_ns
    action.ended_rev = place.rev
    action.due_ms = 0
    run.open_actions -= 1
    if action is not run.actions[0]:
        run.actions[action.parent].open_children -= 1
    count_terminal(run, state)
    if action.cache_key and place.shard.flights:
        _land(place, action)


def _land(place: Place, action: ActionState) -> None:
    """End the action's reservation of its cache key, if it has one."""
    shard, run = place.shard, place.run
    key = flight_key(run, action.cache_key)
    flight = shard.flights.get(key)
    if flight is not None and (flight.run, flight.action) == (run.id, run.ordinals[action.id]):
        del shard.flights[key]


def _keep(place: Place, ordinal: int, action: ActionState) -> None:
    """Put a success into the cache; one of another project stays there for that project."""
    run, cache = place.run, place.shard.cache
    key = action.cache_key
    before = cache.get(key)
    if before is not None and (before.project, before.domain) != (run.project, run.domain):
        cache[scoped_key(key, before.project, before.domain)] = before
        cache.pop(scoped_key(key, run.project, run.domain), None)
    cache[key] = CacheEntry(run.id, ordinal, action.output, place.ts_ns, run.project, run.domain)


def _remember(
    place: Place, action: ActionState, outcome: str, *, error: Any = None, why: str = ""
) -> None:
    record = AttemptRecord(
        action.attempt,
        outcome,
        action.pool,
        action.agent,
        action.worker,
        action.dispatched_ns,
        action.started_ns,
        place.ts_ns,
        error,
        why,
    )
    action.history = [*action.history, record]


def _held(place: Place, action: ActionState, event: m.ActionHeld) -> bool:
    del place
    action.state = State.HELD
    action.why_held, action.held = event.why, event.reason
    return True


def _cache_hit(place: Place, action: ActionState, event: m.CacheHit) -> bool:
    action.cached = True
    action.source_run, action.source_action = event.source_run, event.source_action
    action.output = event.output
    _end(place, action, State.SUCCEEDED)
    return True


def _recovered(place: Place, action: ActionState, event: m.ActionRecovered) -> bool:
    if action.state == State.WAITING and action.kind != "condition":
        return False
    action.source_run, action.source_action = event.source_run, event.source_action
    action.output = event.output
    _count_items(action, event.items)
    _end(place, action, State.RECOVERED)
    return True


def _dispatched(place: Place, action: ActionState, event: m.AttemptDispatched) -> bool:
    # F10: while a dispatch is out the action is not READY, so a second one never gets here.
    if event.attempt != action.attempt or not event.token or place.run.aborting:
        return False
    action.state = State.DISPATCHED
    action.pool, action.agent = intern(event.pool), intern(event.agent)
    action.token, action.generation = event.token, event.generation
    action.worker, action.pid = "", 0
    action.started_ns = 0
    action.dispatched_ns = place.ts_ns
    action.why_held = action.held = ""
    place.run.live_actions += 1
    if not place.run.started_ns:
        place.run.started_ns = place.ts_ns
    return True


def _started(place: Place, action: ActionState, event: m.AttemptStarted) -> bool:
    del place
    action.state = State.RUNNING
    action.worker, action.pid, action.started_ns = intern(event.worker), event.pid, event.started_ns
    return True


def _succeeded(place: Place, action: ActionState, event: m.AttemptSucceeded) -> bool:
    action.output, action.usage = with_one_codec(event.output), event.usage
    action.worker, action.started_ns = intern(event.worker), event.started_ns
    _count_items(action, event.items)
    _end(place, action, State.SUCCEEDED)
    if action.cache_key:
        _keep(place, event.action, action)
    if event.produced:
        note_produced(place.shard, place.run, event.action, event.attempt, event.produced)
    return True


def _count_items(action: ActionState, items: Items | None) -> None:
    # A success is one whatever it says of its items; nonsense about them is left out.
    known = action.items
    if items is None or known is None or items.total != known.total:
        return
    if items.succeeded >= 0 and items.failed >= 0 and items.succeeded + items.failed <= items.total:
        action.items = items


def _failed(place: Place, action: ActionState, event: m.AttemptFailed) -> bool:
    action.worker = event.worker or action.worker
    action.started_ns = event.started_ns or action.started_ns
    action.error, action.usage = event.error, event.usage
    _remember(place, action, "failed", error=event.error)
    _fall(place, action)
    if event.error.kind in SYSTEM_KINDS:
        action.system_failures += 1
    else:
        action.user_failures += 1
    return True


def _lost(place: Place, action: ActionState, event: m.AttemptLost) -> bool:
    _remember(place, action, "lost", why=event.why)
    _fall(place, action)
    action.system_failures += 1
    return True


def _fall(place: Place, action: ActionState) -> None:
    _leave(place.run, action)
    if action.state != State.ABORTING:
        action.state = State.FAILING


def _parked(place: Place, action: ActionState, event: m.AttemptParked) -> bool:
    del place, event
    action.parked = True
    return True


def _evicted(place: Place, action: ActionState, event: m.AttemptEvicted) -> bool:
    del event
    _remember(place, action, "evicted")
    _leave(place.run, action)
    action.evicted = True
    action.state = State.READY
    action.ready_ns = place.ts_ns
    return True


def _returned(place: Place, action: ActionState, event: m.AttemptReturned) -> bool:
    _remember(place, action, "returned", why=event.why)
    _leave(place.run, action)
    action.state = State.READY
    action.ready_ns = place.ts_ns
    return True


def _retry_scheduled(place: Place, action: ActionState, event: m.RetryScheduled) -> bool:
    if event.attempt != action.attempt + 1:
        return False
    action.attempt = event.attempt
    action.evicted = False
    action.due_ms = event.due_ms
    action.state = State.BACKOFF if event.due_ms else State.READY
    action.ready_ns = place.ts_ns
    return True


def _finished(place: Place, action: ActionState, event: m.ActionFinished) -> bool:
    state = FINISHED_STATE.get(event.phase)
    if state is None:
        return False
    if event.error is not None:
        action.error = event.error
    _end(place, action, state)
    return True


def _abort_requested(place: Place, action: ActionState, event: m.ActionAbortRequested) -> bool:
    del place
    action.state = State.ABORTING
    action.abort_timed_out = event.timed_out
    action.abort_who, action.abort_why = event.who, event.why
    action.abort_reason = event.reason
    return True


def _signalled(place: Place, action: ActionState, event: m.ConditionSignalled) -> bool:
    if action.kind != "condition":
        return False
    action.output = event.value
    _end(place, action, State.SUCCEEDED)
    return True


def _fired(place: Place, action: ActionState, event: m.TimerFired) -> bool:
    match event.what:
        case "timer" if action.kind == "timer" and action.state == State.WAITING:
            _end(place, action, State.SUCCEEDED)
        case "condition" if action.kind == "condition" and action.state == State.WAITING:
            _end(place, action, State.TIMED_OUT)
        case "backoff" if action.state == State.BACKOFF:
            action.state = State.READY
            action.due_ms = 0
            action.ready_ns = place.ts_ns
        case "queued" if action.state in (State.READY, State.HELD):
            action.state = State.FAILING
            action.user_failures += 1
        case "runtime" if action.state in _LIVE:
            _remember(place, action, "failed", why="runtime")
            _fall(place, action)
            action.user_failures += 1
        case "deadline" | "grace" | "run-deadline":
            pass  # A mark in the log: the abort or loss that follows says what changes.
        case _:
            return False
    return True


def _child_run_linked(place: Place, action: ActionState, event: m.ChildRunLinked) -> bool:
    del place
    if action.kind != "childrun":
        return False
    action.child_run = event.run
    action.state = State.WAITING
    return True


def _child_run_finished(place: Place, action: ActionState, event: m.ChildRunFinished) -> bool:
    succeeded = event.phase in SUCCESS_PHASES
    state = State.SUCCEEDED if succeeded else FINISHED_STATE.get(event.phase)
    if action.kind != "childrun" or state is None:
        return False
    action.output, action.error = event.output, event.error
    _end(place, action, state)
    return True


def _streamed(place: Place, action: ActionState, event: m.StreamItem) -> bool:
    del place
    if event.index != action.streamed:
        return False
    action.streamed += 1
    return True


def _reserved(place: Place, action: ActionState, event: m.CacheReserved) -> bool:
    shard, run = place.shard, place.run
    if not action.cache_key or event.key != flight_key(run, action.cache_key):
        return False
    if run.aborting or owner_of(shard, event.key) is not None:
        return False
    shard.flights[event.key] = Flight(run.id, event.action, event.revision)
    shard.flight_revision = max(shard.flight_revision, event.revision)
    # Whoever waited for the key until now computes it: the queue limit counts from here.
    if action.state == State.HELD:
        action.state, action.ready_ns = State.READY, place.ts_ns
        action.why_held = action.held = ""
    return True


def _graph_started(place: Place, action: ActionState, event: m.GraphStarted) -> bool:
    del event
    if action.kind != "graph" or place.run.aborting:
        return False
    action.state = State.WALKING
    action.started_ns = place.ts_ns
    action.why_held = action.held = ""
    if not place.run.started_ns:
        place.run.started_ns = place.ts_ns
    return True


def _graph_succeeded(place: Place, action: ActionState, event: m.GraphSucceeded) -> bool:
    if action.open_children:
        return False
    action.output = event.output
    _end(place, action, State.SUCCEEDED)
    if action.cache_key:
        _keep(place, event.action, action)
    return True


def _marked(place: Place, action: ActionState, event: m.Event) -> bool:
    del place, action, event
    return True  # Shown to people; nothing is decided from it.


_RULES: Final[Mapping[type[m.Event], Callable[[Place, ActionState, Any], bool]]] = {
    m.ActionHeld: _held,
    m.CacheHit: _cache_hit,
    m.ActionRecovered: _recovered,
    m.AttemptDispatched: _dispatched,
    m.AttemptStarted: _started,
    m.AttemptSucceeded: _succeeded,
    m.AttemptFailed: _failed,
    m.AttemptLost: _lost,
    m.AttemptParked: _parked,
    m.AttemptEvicted: _evicted,
    m.AttemptReturned: _returned,
    m.RetryScheduled: _retry_scheduled,
    m.ActionFinished: _finished,
    m.ActionAbortRequested: _abort_requested,
    m.ConditionSignalled: _signalled,
    m.TimerFired: _fired,
    m.ChildRunLinked: _child_run_linked,
    m.ChildRunFinished: _child_run_finished,
    m.StreamItem: _streamed,
    m.DivergenceDetected: _marked,
    m.GroupOpened: _marked,
    m.GroupClosed: _marked,
    m.CacheReserved: _reserved,
    m.GraphStarted: _graph_started,
    m.GraphSucceeded: _graph_succeeded,
}
