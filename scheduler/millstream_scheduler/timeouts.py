"""What happens because time has passed: timers, limits, silent agents, unmatched work.

Firings are events, so a replay needs no clock. A timer is checked against the state when it
fires; one that no longer fits is dropped.
"""

from typing import Final

from millstream_events import model as m
from millstream_events.phases import State
from millstream_events.state import RunState
from millstream_events.values import NO_NEEDS, ErrorRecord
from millstream_scheduler.book import ReadyClass
from millstream_scheduler.conditions import notify
from millstream_scheduler.early_runs import give_up_waiting
from millstream_scheduler.fairness import Ready
from millstream_scheduler.hear_reports import live_on, lose
from millstream_scheduler.outcomes import (
    abort_action,
    abort_run,
    action_ended,
    cancel_attempt,
    finish_aborted,
    settle_failure,
)
from millstream_scheduler.placement import describe, matches
from millstream_scheduler.room import why_unfit
from millstream_scheduler.timers import Due
from millstream_scheduler.triggers import fire_trigger
from millstream_scheduler.turn import Turn

#: Timers that one tick fires at most; the rest waits for the next tick.
FIRED_MAX: Final = 4096
#: Held actions that one look marks in the log at most.
HELD_MAX: Final = 256
#: A running limit does not count while the worker is being prepared.
_NOT_STARTED_MS: Final = 50


def fire_timers(turn: Turn) -> None:
    """Fire what is due."""
    give_up_waiting(turn)
    for client, answer in turn.book.late.kept.take_due(turn.now_ms).values():
        turn.effects.clients_durable[client].append(answer)
    for due in turn.book.timers.take(turn.now_ms, entries_max=FIRED_MAX):
        if due.what == "trigger":
            fire_trigger(turn, due)
            continue
        run = turn.state.runs.get(due.run)
        if run is None or not run.decidable or due.action >= len(run.actions):
            continue
        if due.what == "run-deadline":
            _mark(turn, run, due)
            text = f"the run's deadline of {run.deadline_ms / 1000:g} s has passed"
            abort_run(turn, run, who="", why=text, timed_out=True)
        else:
            _fire(turn, run, due)


def _fire(turn: Turn, run: RunState, due: Due) -> None:
    action = run.actions[due.action]
    waits = action.state in (State.READY, State.HELD)
    if action.terminal or (run.aborting and waits):
        return  # What waits in an aborted run is about to end.
    current = action.attempt == due.attempt
    match due.what:
        case "timer" | "condition" if action.state == State.WAITING:
            _mark(turn, run, due)
            action_ended(turn, run, due.action)
        case "webhook" if action.state == State.WAITING:
            notify(turn, run, due.action, due.attempt)
        case "backoff" if action.state == State.BACKOFF and current:
            _mark(turn, run, due)
            if not run.paused:
                turn.book.make_ready(run, due.action)
        case "queued" if current and action.state in (State.READY, State.HELD):
            waited_ms = turn.now_ms - action.ready_ns // 1_000_000
            if waited_ms >= action.rules.queued_max_ms and not run.paused:
                _mark(turn, run, due)
                _time_out(turn, run, due.action, "MaxQueuedTimeExceededError", "queued")
        case "runtime" if current:
            _runtime(turn, run, due)
        case "deadline":
            _mark(turn, run, due)
            text = f"the deadline of {action.rules.deadline_ms / 1000:g} s has passed"
            abort_action(turn, run, due.action, why="deadline", reason=text, timed_out=True)
        case "grace" if current and action.state == State.ABORTING:
            _mark(turn, run, due)
            finish_aborted(turn, run, due.action)
        case _:
            pass


def _runtime(turn: Turn, run: RunState, due: Due) -> None:
    action = run.actions[due.action]
    limit_ms = action.rules.runtime_max_ms
    if action.state == State.DISPATCHED:
        # Not started as far as is known: preparing a worker is charged to nobody.
        again = turn.now_ms + max(_NOT_STARTED_MS, limit_ms)
        turn.book.timers.add(Due(again, "runtime", run.id, due.action, due.attempt))
    elif action.state == State.RUNNING:
        cancel_attempt(turn, action, "timeout")
        seat = turn.book.seats.get(action.agent)
        if seat is not None:
            seat.drop(action.token)
        _mark(turn, run, due)
        _time_out(turn, run, due.action, "MaxRuntimeExceededError", "running")


def _time_out(turn: Turn, run: RunState, ordinal: int, kind: str, doing: str) -> None:
    rules = run.actions[ordinal].rules
    limit_ms = rules.runtime_max_ms if doing == "running" else rules.queued_max_ms
    error = ErrorRecord(
        "timeout",
        kind,
        f"{doing} for more than {limit_ms / 1000:g} s",
        figures=(("limit_ms", limit_ms),),
    )
    settle_failure(turn, run, ordinal, error)


def _mark(turn: Turn, run: RunState, due: Due) -> None:
    action = run.actions[due.action]
    turn.record(
        run,
        m.TimerFired(due.action, action.attempt, action.last_rev, what=due.what, due_ms=due.at_ms),
    )


# ------------------------------------------------------------------ silence


def check_silence(turn: Turn) -> None:
    """Give up agents that have been silent for too long, and what they held."""
    config = turn.book.config
    for seat in list(turn.book.seats.values()):
        silence_ms = (turn.monotonic_ns - seat.heard_ns) // 1_000_000
        if silence_ms <= config.agent_lost_ms:
            continue
        del turn.book.seats[seat.agent]
        _lose_all(turn, seat.agent, "agent-silent", silence_ms, config.agent_lost_ms)
        turn.record_shard(m.PoolLost(0, pool=seat.hello.pool, agent=seat.agent, why="silent"))


def give_up_unclaimed(turn: Turn) -> None:
    """End the adoption window: agents that held work have had their time to say so."""
    for agent in sorted(turn.book.unclaimed):
        limit_ms = turn.book.config.adopt_ms
        _lose_all(turn, agent, "not-adopted", limit_ms, limit_ms)
    turn.book.unclaimed.clear()


def _lose_all(turn: Turn, agent: str, why: str, silence_ms: int, limit_ms: int) -> None:
    for run, ordinal in live_on(turn, agent):
        action = run.actions[ordinal]
        if action.state == State.ABORTING:
            finish_aborted(turn, run, ordinal)
        elif action.token:
            lose(turn, run, ordinal, why, silence_ms=silence_ms, limit_ms=limit_ms)


def hold_unmatched(turn: Turn) -> None:
    """Mark ready work that no pool can run as held, with the reason that people see."""
    config = turn.book.config
    for group in turn.book.classes.values():
        if not len(group.queue):
            group.unmatched_since_ns = 0
            continue
        selector = turn.book.settled(group.key.wanted.selector)
        rooms = {
            seat.agent: seat.room
            for seat in turn.book.seats.values()
            if seat.fresh(turn.monotonic_ns, config.agent_stale_ms)
            and matches(selector, seat.hello)
        }
        needs = group.key.wanted.needs or NO_NEEDS
        if any(room.has(needs) for room in rooms.values()):
            group.unmatched_since_ns = 0
            _hold_back(turn, group)
            continue
        if not group.unmatched_since_ns:
            group.unmatched_since_ns = turn.monotonic_ns
        elif turn.monotonic_ns - group.unmatched_since_ns >= config.hold_ms * 1_000_000:
            if rooms:
                reason = why_unfit(needs, rooms)
            else:
                pools = sorted({seat.hello.pool for seat in turn.book.seats.values()})
                there = f"pools that are there: {', '.join(pools)}" if pools else "no pool is there"
                reason = f"no agent offers {describe(selector)}; {there}"
            for ready in group.queue.peek(HELD_MAX):
                _hold(turn, ready, "pool", reason)


def _hold_back(turn: Turn, group: ReadyClass) -> None:
    """Mark what has waited for room in its queue as held, where an agent could take it."""
    name, queues = group.key.queue_name, turn.book.queues
    if queues.has_room(name, new_run=group.key.new_runs):
        return
    before_ns = (turn.now_ms - turn.book.config.hold_ms) * 1_000_000
    for ready in group.queue.peek(HELD_MAX):
        run = turn.state.runs.get(ready.run)
        if run is not None and run.actions[ready.ordinal].ready_ns <= before_ns:
            _hold(turn, ready, "limit", queues.why_full(name))


def _hold(turn: Turn, ready: Ready, why: str, reason: str) -> None:
    run = turn.state.runs.get(ready.run)
    if run is None or not run.decidable or run.paused:
        return
    action = run.actions[ready.ordinal]
    if action.state == State.READY and action.attempt == ready.attempt:
        event = m.ActionHeld(ready.ordinal, 0, action.last_rev, why=why, reason=reason)
        turn.record(run, event)
