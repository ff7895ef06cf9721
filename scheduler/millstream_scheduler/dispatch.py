"""Placing ready work on credits: the last step of a tick."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from millstream_events.ids import made_ms
from millstream_events.phases import State
from millstream_events.plans import KIND_GRAPH
from millstream_events.reports import CHECKPOINT_KEY, ENDPOINT_KEY, JournalEntry, Work
from millstream_events.state import ActionState, RunState
from millstream_events.values import Needs, Value
from millstream_scheduler.apps import endpoints
from millstream_scheduler.assign import assign
from millstream_scheduler.book import ReadyClass, waits_for_cache
from millstream_scheduler.fairness import Ready
from millstream_scheduler.graphs import start_graph
from millstream_scheduler.placement import Seat, choose, matches
from millstream_scheduler.requests import brought_along, journal
from millstream_scheduler.sources import reuses
from millstream_scheduler.turn import Turn

#: Dispatches of one tick at most, so that a tick stays short.
DISPATCHED_MAX: Final = 2048

#: Classes of one queue, each with the agents that could take its actions.
_Line: TypeAlias = deque[tuple[ReadyClass, list[Seat]]]


def place(turn: Turn) -> bool:
    """Dispatch ready actions while there is credit; say whether the tick's bound was reached."""
    left = DISPATCHED_MAX
    stale_ms = turn.book.config.agent_stale_ms
    seats = [
        seat
        for seat in turn.book.seats.values()
        if seat.credit > 0 and seat.fresh(turn.monotonic_ns, stale_ms)
    ]
    if not seats:
        return False
    lines = _lines(turn, seats)
    while left and lines:
        if len(lines) > 1:
            # One for each turn of a queue, so that none is served for longer than another.
            waiting = {name: turn.book.queues.priority_of(name) for name in lines}
            name, turns = turn.book.turns.pick(waiting), 1
        else:
            name, turns = next(iter(lines)), left
        placed = _serve(turn, lines[name], turns)
        left -= placed
        if placed < turns:
            del lines[name]
    for key in [key for key, group in turn.book.classes.items() if not len(group.queue)]:
        del turn.book.classes[key]
    return not left


def _lines(turn: Turn, seats: list[Seat]) -> dict[str, _Line]:
    """Return what waits in each queue, with the agents that could take it."""
    lines: dict[str, _Line] = {}
    for group in turn.book.classes.values():
        if len(group.queue):
            selector, needs = turn.book.settled(group.key.wanted.selector), group.key.wanted.needs
            offers = [
                seat
                for seat in seats
                if matches(selector, seat.hello) and (needs is None or seat.room.fits(needs))
            ]
            if offers:
                lines.setdefault(group.key.queue_name, deque()).append((group, offers))
    return lines


def _serve(turn: Turn, line: _Line, turns: int) -> int:
    """Dispatch up to `turns` actions of one queue, its classes in turn; return how many."""
    placed = 0
    while placed < turns and line:
        group, offers = line[0]
        key = group.key
        allowed = turn.book.queues.has_room(key.queue_name, new_run=key.new_runs)
        if allowed and _can_take(offers, key.wanted.needs) and _place_next(turn, group, offers):
            placed += 1
            line.rotate(-1)
        else:
            line.popleft()
    return placed


def _can_take(offers: list[Seat], needs: Needs | None) -> bool:
    return any(seat.credit > 0 and (needs is None or seat.room.has(needs)) for seat in offers)


def _place_next(turn: Turn, group: ReadyClass, offers: list[Seat]) -> bool:
    """Dispatch the next action of a class that may be; False: there is none."""
    while len(group.queue):
        ready = group.queue.pop()
        run = turn.state.runs.get(ready.run)
        if run is None:
            continue
        if not _still_ready(run, ready):
            if ready.ordinal < len(run.actions):
                turn.book.wake(run, ready.ordinal)  # Nobody takes the room that it was woken for.
            continue
        limit = turn.book.limit_hit(run, ready.ordinal)
        if limit is not None:
            turn.book.aside.setdefault(limit, deque()).append(ready)
            continue
        if run.actions[ready.ordinal].kind == KIND_GRAPH:
            start_graph(turn, run, ready.ordinal)
        else:
            _dispatch(turn, run, ready.ordinal, offers, group.key.wanted.needs)
        return True
    return False


def _still_ready(run: RunState, ready: Ready) -> bool:
    if not run.decidable or run.paused or ready.ordinal >= len(run.actions):
        return False
    action = run.actions[ready.ordinal]
    if waits_for_cache(action):
        return False
    return action.attempt == ready.attempt and action.state in (State.READY, State.HELD)


def _dispatch(
    turn: Turn, run: RunState, ordinal: int, offers: Iterable[Seat], needs: Needs | None
) -> None:
    action = run.actions[ordinal]
    parent_agent = run.actions[action.parent].agent if ordinal else ""
    spot = needs is not None and needs.interruptible and not _is_last(action)
    seat = choose(offers, action.task.code_in(run.bundle), parent_agent, needs, interruptible=spot)
    assert seat is not None, (run.id, ordinal)
    token = turn.book.new_token()
    assign(turn, run, ordinal, seat, token)
    if not ordinal:
        turn.book.queues.note_run(run)
    seat.used += 1
    steps = brought_along(turn, run, ordinal)
    work = work_of(run, ordinal, action, steps, endpoints(turn.state, turn.book.apps, run))
    if action.rules.idempotent:
        turn.order_now(seat.agent, work)  # Speculative: the frame is on its way.
    else:
        turn.order_durable(seat.agent, work)


def _is_last(action: ActionState) -> bool:
    """Say whether an attempt that is interrupted now may have been the last one."""
    rules = action.rules
    user, system = action.user_failures, action.system_failures
    return (user > 0 and user >= rules.retries) or (system > 0 and system >= rules.system_retries)


def work_of(
    run: RunState,
    ordinal: int,
    action: ActionState,
    steps: Sequence[JournalEntry] = (),
    apps: tuple[tuple[str, Value], ...] = (),
) -> Work:
    """Return the order that starts the action's current attempt, with its journal.

    Args:
        run: The run.
        ordinal: Its action.
        action: The same.
        steps: As `requests.brought_along` gives them.
        apps: Where the apps of the run's project are reached.
    """
    known = action.children or steps
    entries, following = journal(run, ordinal, 0, steps) if known else ((), 0)
    return Work(
        action.generation,
        run.id,
        ordinal,
        action.id,
        action.attempt,
        action.token,
        action.task,
        action.inputs,
        action.task.code_in(run.bundle),
        action.policy,
        entries,
        following,
        run.project,
        run.domain,
        run.name,
        action.group,
        run.context,
        made_ms(run.id) if run.fired is None else run.fired.at_ms,
        reuses(run.origin),
        _is_limited(run, action),
        _left_behind(action),
        action.kind,
        apps,
    )


def _is_limited(run: RunState, action: ActionState) -> bool:
    """Say whether somebody has set a limit to what the action's children may do at once."""
    own, root = action.policy, run.actions[0].rules
    if own is not None and own.children_max:
        return True
    return root.actions_max > 0 or root.queue != ""


def _left_behind(action: ActionState) -> tuple[tuple[str, Value], ...]:
    """Return what an earlier attempt left for the next one."""
    kept = action.kept
    return tuple((key, kept[key]) for key in (CHECKPOINT_KEY, ENDPOINT_KEY) if key in kept)
