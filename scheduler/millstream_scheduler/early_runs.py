"""Runs that begin on an agent before the leader has heard of them (decision 34).

A client whose run has just ended is told where (`next_host`), and sends the next one to that
agent and to the leader in one message. The leader records the run, and waits for the agent's
word instead of dispatching it.
"""

from millstream_events.early import RunBegun, RunDeclined
from millstream_events.phases import State
from millstream_events.reports import BeginNothing, Forget
from millstream_events.state import RunState
from millstream_scheduler.assign import adopt, count_spent
from millstream_scheduler.caching import look_up
from millstream_scheduler.turn import Turn


def is_too_early(turn: Turn, agent: str, report: RunBegun) -> bool:
    """Say whether an agent speaks of a run before its client does, for the first time.

    Both have heard of it in one message, so the agent has only to say it again.
    """
    if report.run in turn.state.runs or turn.book.unheard_of.take(report.run) is not None:
        return False
    turn.book.unheard_of.add(report.run, agent, turn.now_ms)
    return True


def begun(turn: Turn, agent: str, report: RunBegun) -> None:
    """Record that a run's root is with the agent that began it, or have that ended."""
    count_spent(turn, agent, report.generation)
    turn.book.expected.take(report.run)
    run = turn.state.runs.get(report.run)
    if run is not None and run.decidable and run.actions:
        root = run.actions[0]
        if root.token == report.token:
            return  # A former leader has recorded it.
        first = root.attempt == 1 and not root.dispatched_ns
        if first and adopt(turn, agent, run, 0, report.token, report.generation):
            turn.book.queues.note_run(run)
            if run.paused:
                turn.order_now(agent, BeginNothing(run.id))
            return
    turn.order_now(agent, Forget(report.token))


def declined(turn: Turn, agent: str, report: RunDeclined) -> None:
    """Have a run dispatched that its agent has no room for."""
    del agent
    if turn.book.expected.take(report.run) is not None:
        _go_on(turn, report.run)


def give_up_waiting(turn: Turn) -> None:
    """Have the runs dispatched that their agents have said nothing of."""
    turn.book.unheard_of.take_due(turn.now_ms)
    for run in turn.book.expected.take_due(turn.now_ms):
        _go_on(turn, run)


def _go_on(turn: Turn, run_id: str) -> None:
    run: RunState | None = turn.state.runs.get(run_id)
    if run is not None and run.decidable and run.actions and run.actions[0].state == State.READY:
        look_up(turn, run, 0)
