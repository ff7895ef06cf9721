"""What agents report: one function for each report that is about the agent or its attempts."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from millstream_events import model as m
from millstream_events.early import RunBegun, RunDeclined
from millstream_events.phases import State
from millstream_events.reports import (
    UNKNOWN_ACTION,
    UNNUMBERED,
    AgentBatch,
    Annotate,
    AskChildren,
    AskJournal,
    BeginNothing,
    CancelChild,
    Credit,
    Diverged,
    Failed,
    Forget,
    Goodbye,
    Hello,
    Lost,
    Notified,
    OpenCondition,
    Parked,
    RecordTrace,
    Repeat,
    Report,
    Returned,
    SayHello,
    SetTimer,
    StartAction,
    Started,
    Succeeded,
)
from millstream_events.state import ActionState, RunState
from millstream_events.values import ErrorRecord
from millstream_scheduler import conditions, early_runs, requests
from millstream_scheduler.assign import ordinal_of, tell_ordinal
from millstream_scheduler.outcomes import (
    action_ended,
    cancel_attempt,
    finish_aborted,
    settle_failure,
)
from millstream_scheduler.placement import Seat
from millstream_scheduler.sizes import produced_too_large, result_too_large, too_large, trimmed
from millstream_scheduler.timers import Due
from millstream_scheduler.turn import Turn


def hear_reports(turn: Turn, pool: str, agent: str, batch: AgentBatch) -> None:
    """Fold what one agent says, in its order; a gap in the numbers is asked for again."""
    seat = turn.book.seats.get(agent)
    if seat is None or seat.incarnation != batch.incarnation:
        if not any(isinstance(item, Hello) for item in batch.items):
            turn.book.strangers[agent] = (pool, batch.region, batch.incarnation)
            turn.order_now(agent, SayHello())
            return
        seat = None
    number = batch.first
    if seat is not None and number > seat.next_number:
        turn.order_now(agent, Repeat(seat.next_number))
    #: Number of a report that cannot be taken yet: it is repeated later, with those behind it.
    stuck = 0
    for item in batch.items:
        if isinstance(item, Hello):
            seat = _hello(turn, pool, agent, batch, item, stuck or number)
            continue
        if seat is not None:
            seat.heard_ns = turn.monotonic_ns
        if isinstance(item, UNNUMBERED):
            _REPORTS[type(item)](turn, agent, item)
            continue
        # Without a seat: outcomes of a former incarnation, ahead of the introduction. They count
        # by their tokens, and must be folded before what it held is given up.
        if not stuck and (seat is None or number == seat.next_number):
            if type(item) is RunBegun and early_runs.is_too_early(turn, agent, item):
                stuck = number
            else:
                _REPORTS[type(item)](turn, agent, item)
                if seat is not None:
                    seat.next_number = number + 1
        number += 1
    if seat is not None and number > batch.first:
        # Repeats are acknowledged again: the first acknowledgement may have been lost.
        turn.effects.acks[agent] = seat.next_number - 1


def _hello(
    turn: Turn, pool: str, agent: str, batch: AgentBatch, hello: Hello, next_number: int
) -> Seat:
    before = turn.book.seats.get(agent)
    folded = turn.state.agents.get(agent)
    same = before is not None and before.incarnation == batch.incarnation
    if before is not None and same and hello.generation < before.generation:
        return before  # Late: a newer introduction has been heard.
    seat = Seat(agent, batch.incarnation, hello, turn.monotonic_ns)
    seat.next_number = next_number
    if before is not None and same:
        seat.next_number = max(seat.next_number, before.next_number)
        seat.bundles = before.bundles
    else:
        # Numbers of the former incarnation must not acknowledge reports of this one.
        turn.effects.acks.pop(agent, None)
    turn.book.seats[agent] = seat
    turn.book.unclaimed.discard(agent)
    restarted = folded is not None and folded.incarnation != batch.incarnation
    _reconcile(turn, seat, restarted=restarted)
    if folded is None or not folded.present or restarted:
        if restarted:
            # What a restart has cost is in the log before the restart is: a leader that finds the
            # latter alone could not tell attempts that died with the agent from those that it
            # never got.
            turn.seal()
        turn.record_shard(
            m.PoolSeen(
                0,
                pool=pool,
                agent=agent,
                region=hello.region,
                cluster=hello.cluster,
                labels=hello.labels,
                slots=hello.slots,
                incarnation=batch.incarnation,
            )
        )
    return seat


def _reconcile(turn: Turn, seat: Seat, *, restarted: bool) -> None:
    """Compare what the agent holds with what the log says that it holds."""
    holding = {held.token: held for held in seat.hello.holding}
    for run, ordinal in live_on(turn, seat.agent):
        action = run.actions[ordinal]
        if not action.token:
            continue  # Ended since by what an attempt before it in this list led to.
        if holding.pop(action.token, None) is not None:
            seat.live[action.token] = (run.id, ordinal)
            if action.rules.needs is not None:
                seat.room.take(action.token, action.rules.needs)
            if action.state == State.ABORTING:
                cancel_attempt(turn, action, "aborted")  # The first word may have been lost.
        elif restarted:
            lose(turn, run, ordinal, "agent-restarted")
        elif action.generation < seat.generation:
            give_back(turn, run, ordinal, "never-arrived")
    for run_id in dict.fromkeys(run_id for run_id, _ in seat.live.values()):
        if turn.state.runs[run_id].paused:
            turn.order_now(seat.agent, BeginNothing(run_id))  # The first word may be lost.
    for token, held in holding.items():
        if not held.eager:  # Of those the numbered reports are yet to tell.
            turn.order_now(seat.agent, Forget(token))


def ask_for_introductions(turn: Turn) -> None:
    """Ask every agent to introduce itself: orders to it may have been lost."""
    for agent in turn.book.seats:
        turn.order_now(agent, SayHello())


def live_on(turn: Turn, agent: str) -> list[tuple[RunState, int]]:
    """Return the attempts that, by the log, an agent holds."""
    return [
        (run, ordinal)
        for run_id in turn.book.depths
        if (run := turn.state.runs[run_id]).live_actions
        for ordinal, action in enumerate(run.actions)
        if action.token and action.agent == agent
    ]


def lose(
    turn: Turn,
    run: RunState,
    ordinal: int,
    why: str,
    *,
    silence_ms: int = 0,
    limit_ms: int = 0,
    figures: tuple[tuple[str, int], ...] = (),
) -> None:
    """Record that nobody will report on an attempt, and decide what follows."""
    action = run.actions[ordinal]
    _forget_live(turn, action)
    turn.record(
        run,
        m.AttemptLost(
            ordinal,
            action.attempt,
            action.last_rev,
            token=action.token,
            why=why,
            silence_ms=silence_ms,
            limit_ms=limit_ms,
            figures=figures,
        ),
    )
    at_most_once = not action.rules.idempotent
    error = ErrorRecord(
        "system",
        "WorkerCrashedError" if why == "worker-crashed" else "WorkerLostError",
        _LOST_TEXT.get(why, why).format(agent=action.agent, silence_s=silence_ms / 1000),
        retryable=not at_most_once,
        figures=figures,
    )
    settle_failure(turn, run, ordinal, error)


def give_back(turn: Turn, run: RunState, ordinal: int, why: str) -> None:
    """Make an attempt ready again that never started; at most once cannot prove that."""
    action = run.actions[ordinal]
    if action.state == State.ABORTING:
        _forget_live(turn, action)
        finish_aborted(turn, run, ordinal)
        return
    proven = why != "never-arrived"
    if (not action.rules.idempotent and not proven) or action.state != State.DISPATCHED:
        lose(turn, run, ordinal, "not-adopted")
        return
    _forget_live(turn, action)
    turn.record(
        run,
        m.AttemptReturned(ordinal, action.attempt, action.last_rev, token=action.token, why=why),
    )
    if not run.paused:
        turn.book.make_ready(run, ordinal)


def _forget_live(turn: Turn, action: ActionState) -> None:
    seat = turn.book.seats.get(action.agent)
    if seat is not None:
        seat.drop(action.token)


_LOST_TEXT: Final = {
    "worker-crashed": "the worker process died",
    "worker-not-started": "no worker process could be started on agent {agent}",
    "worker-blocked": "the worker's event loop was blocked and it was ended",
    "agent-left": "agent {agent} was stopped",
    "agent-restarted": "agent {agent} was restarted",
    "agent-silent": "agent {agent} has been silent for {silence_s:.1f} s",
    "not-adopted": "agent {agent} did not say that it holds the attempt",
}

# ------------------------------------------------------------------ attempts


_AboutAttempt: TypeAlias = Started | Succeeded | Failed | Lost | Returned | Parked


def _attempt(turn: Turn, agent: str, report: _AboutAttempt) -> tuple[RunState, int] | None:
    """Return run and ordinal if the report is about the action's current attempt (rule F6)."""
    run = turn.state.runs.get(report.run)
    if run is None or not run.decidable:
        return None
    ordinal = ordinal_of(turn, agent, run, report.action, report.token)
    return None if ordinal is None else (run, ordinal)


def _started(turn: Turn, agent: str, report: Started) -> None:
    found = _attempt(turn, agent, report)
    if found is None:
        return
    run, ordinal = found
    action = run.actions[ordinal]
    if report.action == UNKNOWN_ACTION:
        tell_ordinal(turn, agent, ordinal, report.token)
    turn.record(
        run,
        m.AttemptStarted(
            ordinal,
            action.attempt,
            action.last_rev,
            token=report.token,
            worker=report.worker,
            pid=report.pid,
            started_ns=report.started_ns,
        ),
    )
    if action.rules.runtime_max_ms:
        due_ms = turn.now_ms + action.rules.runtime_max_ms
        turn.book.timers.add(Due(due_ms, "runtime", run.id, ordinal, action.attempt))


def _succeeded(turn: Turn, agent: str, report: Succeeded) -> None:
    if too_large(report.output) or produced_too_large(report.produced):
        _failed(turn, agent, _unrecordable(report))
        return
    found = _attempt(turn, agent, report)
    _drop_live(turn, agent, report.token)
    if found is None:
        return
    run, ordinal = found
    action = run.actions[ordinal]
    effective = turn.record(
        run,
        m.AttemptSucceeded(
            ordinal,
            action.attempt,
            action.last_rev,
            token=report.token,
            output=report.output,
            worker=report.worker,
            started_ns=report.started_ns,
            ended_ns=report.ended_ns,
            usage=report.usage,
            items=report.items,
            produced=report.produced,
        ),
    )
    if effective:
        action_ended(turn, run, ordinal)
    elif action.state == State.ABORTING:
        finish_aborted(turn, run, ordinal)  # F7: the abort was first in the log.


def _unrecordable(report: Succeeded) -> Failed:
    return Failed(
        report.run,
        report.action,
        report.token,
        result_too_large(report.output),
        report.worker,
        report.started_ns,
        report.ended_ns,
        report.usage,
    )


def _failed(turn: Turn, agent: str, report: Failed) -> None:
    found = _attempt(turn, agent, report)
    _drop_live(turn, agent, report.token)
    if found is None:
        return
    run, ordinal = found
    action = run.actions[ordinal]
    error = trimmed(report.error)
    effective = turn.record(
        run,
        m.AttemptFailed(
            ordinal,
            action.attempt,
            action.last_rev,
            token=report.token,
            error=error,
            worker=report.worker,
            started_ns=report.started_ns,
            ended_ns=report.ended_ns,
            usage=report.usage,
        ),
    )
    if effective:
        settle_failure(turn, run, ordinal, error)


def _lost(turn: Turn, agent: str, report: Lost) -> None:
    found = _attempt(turn, agent, report)
    _drop_live(turn, agent, report.token)
    if found is not None:
        lose(turn, *found, report.why, figures=report.figures)


def _returned(turn: Turn, agent: str, report: Returned) -> None:
    found = _attempt(turn, agent, report)
    _drop_live(turn, agent, report.token)
    if found is not None:
        give_back(turn, *found, report.why)


def _parked(turn: Turn, agent: str, report: Parked) -> None:
    found = _attempt(turn, agent, report)
    if found is not None:
        run, ordinal = found
        action = run.actions[ordinal]
        turn.record(
            run,
            m.AttemptParked(ordinal, action.attempt, action.last_rev, token=report.token),
        )


def _credit(turn: Turn, agent: str, report: Credit) -> None:
    seat = turn.book.seats.get(agent)
    if seat is None:
        return
    if report.generation == seat.generation:
        seat.granted = max(seat.granted, report.granted)
        seat.workers = report.workers
    elif report.generation > seat.generation:
        turn.order_now(agent, SayHello())  # Its newer introduction was lost on the way.


def _goodbye(turn: Turn, agent: str, report: Goodbye) -> None:
    seat = turn.book.seats.get(agent)
    if seat is None or seat.generation != report.generation:
        return
    for run, ordinal in live_on(turn, agent):
        if run.actions[ordinal].token:
            give_back(turn, run, ordinal, "draining")
    del turn.book.seats[agent]
    turn.record_shard(m.PoolDrained(0, pool=seat.hello.pool, agent=agent))


def _drop_live(turn: Turn, agent: str, token: bytes) -> None:
    seat = turn.book.seats.get(agent)
    if seat is not None:
        seat.drop(token)


_REPORTS: Final[Mapping[type[Report], Callable[[Turn, str, Any], None]]] = {
    Credit: _credit,
    Started: _started,
    Succeeded: _succeeded,
    Failed: _failed,
    Lost: _lost,
    Returned: _returned,
    Parked: _parked,
    StartAction: requests.start_action,
    SetTimer: requests.set_timer,
    OpenCondition: conditions.open_condition,
    Notified: conditions.notified,
    RecordTrace: requests.record_trace,
    CancelChild: requests.cancel_child,
    AskChildren: requests.ask_children,
    AskJournal: requests.ask_journal,
    Annotate: requests.annotate,
    Diverged: requests.note_divergence,
    RunBegun: early_runs.begun,
    RunDeclined: early_runs.declined,
    Goodbye: _goodbye,
}
