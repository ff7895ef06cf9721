"""Giving one attempt to one agent: by the leader's choice, or because it has begun there."""

from millstream_events import model as m
from millstream_events.early import EARLY_RUNS
from millstream_events.phases import State
from millstream_events.reports import Adopted, Forget, StartAction
from millstream_events.state import RunState
from millstream_events.subjects import agent_address
from millstream_scheduler.placement import ANY, INTERRUPTIBLE, Seat, selector_of
from millstream_scheduler.queues import queue_name
from millstream_scheduler.timers import Due
from millstream_scheduler.turn import Turn


def assign(turn: Turn, run: RunState, ordinal: int, seat: Seat, token: bytes) -> None:
    """Record that an attempt is with an agent, under `token`."""
    _record(turn, run, ordinal, seat.hello.pool, seat.agent, token, seat.generation)
    seat.live[token] = (run.id, ordinal)
    seat.bundles.add(run.actions[ordinal].task.code_in(run.bundle))
    needs = run.actions[ordinal].rules.needs
    if needs is not None:
        seat.room.take(token, needs)


def _record(
    turn: Turn,
    run: RunState,
    ordinal: int,
    pool: str,
    agent: str,
    token: bytes,
    generation: int,
) -> None:
    action = run.actions[ordinal]
    turn.record(
        run,
        m.AttemptDispatched(
            ordinal,
            action.attempt,
            action.last_rev,
            pool=pool,
            agent=agent,
            token=token,
            generation=generation,
        ),
    )
    if action.rules.runtime_max_ms:
        due_ms = turn.now_ms + action.rules.runtime_max_ms
        turn.book.timers.add(Due(due_ms, "runtime", run.id, ordinal, action.attempt))


def adopt(
    turn: Turn, agent: str, run: RunState, ordinal: int, token: bytes, generation: int
) -> bool:
    """Record that a new action runs where it has begun, if it may run there at all.

    It has begun, so a pause that it has not heard of, or a limit of ours, comes too late: to
    decline would be to run it twice. Where a limit holds for every line of user code no child
    begins early (`Work.limited`).

    To a new leader an agent repeats its calls ahead of its introduction, which then claims what
    they have begun: so there may be no seat yet.
    """
    action = run.actions[ordinal]
    if action.state != State.READY or not action.rules.idempotent:
        return False
    if selector_of(action.rules, turn.book.queues.pool_of(queue_name(run, ordinal))) != ANY:
        return False
    seat = turn.book.seats.get(agent)
    if seat is not None:
        assign(turn, run, ordinal, seat, token)
        return True
    known = turn.state.agents.get(agent)
    if known is None:
        return False
    _record(turn, run, ordinal, known.pool, agent, token, generation)
    _by_token(turn, run)[token] = ordinal
    return True


def count_spent(turn: Turn, agent: str, generation: int) -> None:
    """Count the credit that an agent has spent on something that has begun there."""
    seat = turn.book.seats.get(agent)
    if seat is not None and seat.generation == generation:
        seat.used += 1


def next_host(turn: Turn, run: RunState) -> str:
    """Return the agent that would begin another run like `run` at once, or nothing.

    It has just given a slot back. Not while other work waits, nor while there are apps, of which
    the agent does not know where they are reached.
    """
    book = turn.book
    seat = book.seats.get(run.actions[0].agent)
    if seat is None or book.apps or book.ready_count:
        return ""
    if EARLY_RUNS not in seat.hello.features or INTERRUPTIBLE in seat.hello.labels:
        return ""
    return agent_address(seat.hello.region, seat.hello.pool, seat.agent)


def settle_eager(turn: Turn, agent: str, call: StartAction) -> None:
    """Account for a call that has begun on its agent, and end what was not recorded of it."""
    count_spent(turn, agent, call.generation)
    run = turn.state.runs.get(call.run)
    known = None if run is None else run.ordinals.get(call.id)
    if run is None or known is None or run.actions[known].token != call.eager:
        turn.order_now(agent, Forget(call.eager))


def ordinal_of(turn: Turn, agent: str, run: RunState, ordinal: int, token: bytes) -> int | None:
    """Return the ordinal of the action whose current attempt has `token` (rule F6).

    An attempt that began on its agent reports under `UNKNOWN_ACTION`.
    """
    if ordinal < 0:
        seat = turn.book.seats.get(agent)
        live = None if seat is None else seat.live.get(token)
        if live is not None and live[0] == run.id:
            ordinal = live[1]
        else:
            # After a change of leader, or from the agent's former incarnation: rare.
            ordinal = _by_token(turn, run).get(token, -1)
    if token and 0 <= ordinal < len(run.actions) and run.actions[ordinal].token == token:
        return ordinal
    return None


def _by_token(turn: Turn, run: RunState) -> dict[bytes, int]:
    """Return the ordinals of the run's live attempts, of which a million actions may be asked."""
    found = turn.by_token.get(run.id)
    if found is None:
        live = {action.token: ordinal for ordinal, action in enumerate(run.actions) if action.token}
        found = turn.by_token[run.id] = live
    return found


def tell_ordinal(turn: Turn, agent: str, ordinal: int, token: bytes) -> None:
    """Tell an agent the ordinal of an attempt that began there."""
    turn.order_now(agent, Adopted(token, ordinal))
