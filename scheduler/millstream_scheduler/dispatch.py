"""Placing ready work on credits: the last step of a tick."""

from collections.abc import Iterable, Sequence
from typing import Final

from millstream_events.phases import State
from millstream_events.reports import JournalEntry, Work
from millstream_events.state import ActionState, RunState
from millstream_scheduler.assign import assign
from millstream_scheduler.book import ReadyClass, waits_for_cache
from millstream_scheduler.fairness import Ready
from millstream_scheduler.placement import Seat, choose, matches
from millstream_scheduler.requests import journal
from millstream_scheduler.sources import reuses
from millstream_scheduler.turn import Turn

#: Dispatches of one tick at most, so that a tick stays short.
DISPATCHED_MAX: Final = 2048


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
    for group in list(turn.book.classes.values()):
        selector = turn.book.settled(group.selector)
        offers = [seat for seat in seats if matches(selector, seat.hello)]
        if offers and len(group.queue):
            left = _place_class(turn, group, offers, left)
        if not left:
            return True
        if not len(group.queue):
            turn.book.classes.pop(group.selector)
    return False


def _place_class(turn: Turn, group: ReadyClass, offers: list[Seat], left: int) -> int:
    while left and len(group.queue) and any(seat.credit > 0 for seat in offers):
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
            turn.book.aside.setdefault(limit, []).append(ready)
            continue
        _dispatch(turn, run, ready.ordinal, offers)
        left -= 1
    return left


def _still_ready(run: RunState, ready: Ready) -> bool:
    if not run.decidable or run.paused or ready.ordinal >= len(run.actions):
        return False
    action = run.actions[ready.ordinal]
    if waits_for_cache(action):
        return False
    return action.attempt == ready.attempt and action.state in (State.READY, State.HELD)


def _dispatch(turn: Turn, run: RunState, ordinal: int, offers: Iterable[Seat]) -> None:
    action = run.actions[ordinal]
    parent_agent = run.actions[action.parent].agent if ordinal else ""
    seat = choose(offers, run.bundle, parent_agent)
    assert seat is not None, (run.id, ordinal)
    token = turn.book.new_token()
    assign(turn, run, ordinal, seat, token)
    seat.used += 1
    work = work_of(run, ordinal, action, turn.book.steps_before(run, action.id))
    if action.rules.idempotent:
        turn.order_now(seat.agent, work)  # Speculative: the frame is on its way.
    else:
        turn.order_durable(seat.agent, work)


def work_of(
    run: RunState, ordinal: int, action: ActionState, steps: Sequence[JournalEntry] = ()
) -> Work:
    """Return the order that starts the action's current attempt, with its journal.

    Args:
        run: The run.
        ordinal: Its action.
        action: The same.
        steps: What the action recorded in the runs that this one recovers.
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
        run.bundle,
        action.policy,
        entries,
        following,
        run.project,
        run.domain,
        run.name,
        action.group,
        run.context,
        run.created_ns // 1_000_000,
        reuses(run.origin),
    )
