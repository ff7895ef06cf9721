"""Runs that begin on an agent before the leader has heard of them (decision 34).

A client whose run has just ended is told where (`next_host`), and sends the next one to that
agent and to the leader in one message. The leader records the run, and waits for the agent's
word instead of dispatching it.
"""

from millstream_events.commands import ClientBatch, SubmitRun
from millstream_events.early import RunBegun, RunDeclined, may_begin_early
from millstream_events.phases import State
from millstream_events.reports import BeginNothing, Forget, Repeat
from millstream_events.state import RunState
from millstream_scheduler.assign import adopt, count_spent
from millstream_scheduler.caching import look_up
from millstream_scheduler.turn import Turn


def submitted(turn: Turn, batch: ClientBatch, command: SubmitRun) -> None:
    """Have a new run dispatched, or wait for the agent that may have begun it."""
    agent = turn.book.unheard_of.take(command.run)
    if agent is not None:
        _ask_again(turn, agent)
    if agent is not None or (batch.agent and may_begin_early(command)):
        turn.book.expected.add(command.run, agent or batch.agent, turn.now_ms)
    else:
        look_up(turn, turn.state.runs[command.run], 0)


def refused(turn: Turn, command: SubmitRun) -> None:
    """Have a run ended where it may have begun: there will be no such run."""
    turn.book.not_coming.add(command.run, None, turn.now_ms)


def is_too_early(turn: Turn, agent: str, report: RunBegun) -> bool:
    """Say whether an agent speaks of a run before its client does.

    Both have heard of it in one message, but a new leader hears the agent's repetition before the
    client's as often as not. The agent's word is then taken when the client has spoken.
    """
    book = turn.book
    if report.run in turn.state.runs or report.run in book.not_coming:
        return False
    if report.run not in book.unheard_of:
        book.unheard_of.add(report.run, agent, turn.now_ms)
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
    """Go on with runs of which either side alone has said something for too long."""
    book = turn.book
    for run, agent in book.unheard_of.take_due(turn.now_ms).items():
        book.not_coming.add(run, None, turn.now_ms)
        _ask_again(turn, agent)
    book.not_coming.take_due(turn.now_ms)
    for run in turn.book.expected.take_due(turn.now_ms):
        _go_on(turn, run)


def _ask_again(turn: Turn, agent: str) -> None:
    """Ask an agent for its reports from the first on that was not taken."""
    seat = turn.book.seats.get(agent)
    if seat is not None:
        turn.order_now(agent, Repeat(seat.next_number))


def _go_on(turn: Turn, run_id: str) -> None:
    run: RunState | None = turn.state.runs.get(run_id)
    if run is not None and run.decidable and run.actions and run.actions[0].state == State.READY:
        look_up(turn, run, 0)
