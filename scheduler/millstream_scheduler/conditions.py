"""Conditions: questions of running attempts that somebody outside answers.

A condition is an action that runs nowhere. It is opened once, whoever repeats the request, and
ends by an answer, by its timeout or by an abort, whichever is first in the log.
"""

from typing import Final

from millstream_events import model as m
from millstream_events.commands import SignalCondition
from millstream_events.conditions import SCALAR_TYPES, decode_scalar, type_name
from millstream_events.phases import Phase, State
from millstream_events.reports import Notified, Notify, OpenCondition, Refuse
from millstream_events.state import ActionState, RunState
from millstream_scheduler.book import WEBHOOK, webhooks_called
from millstream_scheduler.outcomes import action_ended
from millstream_scheduler.recovery import recover
from millstream_scheduler.requests import new_call
from millstream_scheduler.sizes import PAYLOAD_BYTES_MAX, opening_bytes
from millstream_scheduler.timers import Due
from millstream_scheduler.turn import Turn

#: An agent that was told to call a webhook has this long to say what came of it; it tries for
#: less than that.
NOTIFIED_MS: Final = 120_000
#: A webhook is given to an agent so often at most, by one leader.
NOTIFY_MAX: Final = 3
#: With no agent there, the next look comes after this long.
_NO_AGENT_MS: Final = 2_000
#: Characters of an outcome that are kept.
_OUTCOME_CHARS_MAX: Final = 512


def open_condition(turn: Turn, agent: str, request: OpenCondition) -> None:
    """Open the condition that an attempt asks for, or answer for the one that exists."""
    found = new_call(turn, agent, request)
    if found is None:
        return
    run, caller_ordinal = found
    parent = run.actions[caller_ordinal]
    flaw = _flaw(turn, run, request)
    if flaw is not None:
        turn.order_now(agent, Refuse(run.id, request.token, request.id, *flaw))
        return
    ordinal = len(run.actions)
    timeout_ms = request.extras.timeout_ms
    due_ms = turn.now_ms + timeout_ms if timeout_ms else 0
    turn.record(
        run,
        m.ConditionOpened(
            ordinal,
            0,
            parent.last_rev,
            id=request.id,
            parent=caller_ordinal,
            name=request.name,
            type=request.expects,
            prompt=request.prompt,
            due_ms=due_ms,
            webhook=request.webhook,
            extras=request.extras,
        ),
    )
    turn.book.add_child(run, caller_ordinal)
    if recover(turn, run, ordinal):
        return
    if due_ms:
        turn.book.timers.add(Due(due_ms, "condition", run.id, ordinal, 1))
    if request.webhook:
        notify(turn, run, ordinal, 1)


def _flaw(turn: Turn, run: RunState, request: OpenCondition) -> tuple[str, str] | None:
    if request.expects not in SCALAR_TYPES or request.extras.timeout_ms < 0:
        return "invalid", f"condition {request.name[:80]!r} is not one that can be answered"
    size_bytes = opening_bytes(request)
    if size_bytes > PAYLOAD_BYTES_MAX:
        limit = PAYLOAD_BYTES_MAX
        return "too-large", f"the condition takes {size_bytes} bytes in the log; {limit} may be"
    limit = turn.book.config.run_actions_max
    if len(run.actions) >= limit:
        return "too-many-children", f"run {run.id} has {limit} actions, the most of one run"
    return None


# ------------------------------------------------------------------ answers


def signal(turn: Turn, run: RunState, command: SignalCondition) -> tuple[str, str] | None:
    """Answer a condition of `run`.

    Returns:
        Code and reason of the refusal, or None: the condition has this answer, now or earlier.
    """
    ordinal = run.ordinals.get(command.id)
    if ordinal is None:
        if run.finished:
            return "already-ended", f"run {run.name or run.id} is over"
        return "no-such-action", f"run {run.name or run.id} has no such condition"
    action = run.actions[ordinal]
    if action.kind != "condition":
        return "no-such-action", f"a{ordinal} of run {run.name or run.id} is no condition"
    asked = action.asked
    try:
        answer = decode_scalar(command.value)
    except ValueError as exc:
        return "wrong-type", str(exc)
    if type_name(answer) != asked.type:
        text = f"condition {asked.name!r} asks for {asked.type}, not {type_name(answer)}"
        return "wrong-type", text
    if action.terminal or action.state == State.ABORTING:
        if action.phase == Phase.SUCCEEDED and action.output == command.value:
            return None
        return "already-ended", _ended_text(action)
    turn.record(
        run,
        m.ConditionSignalled(
            ordinal, 0, action.last_rev, command.command, value=command.value, who=command.who
        ),
    )
    action_ended(turn, run, ordinal)
    return None


def _ended_text(action: ActionState) -> str:
    name = action.asked.name
    if action.phase == Phase.SUCCEEDED:
        return f"condition {name!r} was answered with {decode_scalar(action.output)!r} already"
    how = "its time was up" if action.phase == Phase.TIMED_OUT else "it was aborted"
    return f"condition {name!r} takes no answer any more: {how}"


# ------------------------------------------------------------------ webhooks


def notify(turn: Turn, run: RunState, ordinal: int, number: int) -> None:
    """Have the condition's webhook called by the agent of its parent, or by any other.

    Args:
        turn: The tick.
        run: The run.
        ordinal: The condition.
        number: How often this leader has asked for it, this time included.
    """
    action = run.actions[ordinal]
    if number > NOTIFY_MAX or (WEBHOOK, str(ordinal)) in webhooks_called(run):
        return
    stale_ms = turn.book.config.agent_stale_ms
    fresh = [
        agent for agent, seat in turn.book.seats.items() if seat.fresh(turn.monotonic_ns, stale_ms)
    ]
    if not fresh:
        due_ms = turn.now_ms + _NO_AGENT_MS
        turn.book.timers.add(Due(due_ms, "webhook", run.id, ordinal, number))
        return
    parent_agent = run.actions[action.parent].agent
    # Behind the frame: nobody may hear of a condition that a lost leader takes with it.
    turn.order_durable(
        parent_agent if parent_agent in fresh else min(fresh),
        Notify(run.id, action.id, ordinal, action.asked.webhook, action.asked.payload),
    )
    due_ms = turn.now_ms + NOTIFIED_MS
    turn.book.timers.add(Due(due_ms, "webhook", run.id, ordinal, number + 1))


def notified(turn: Turn, agent: str, report: Notified) -> None:
    """Record what came of a webhook, once."""
    run = turn.state.runs.get(report.run)
    ordinal = None if run is None else run.ordinals.get(report.id)
    if run is None or ordinal is None or not run.decidable:
        return
    if (WEBHOOK, str(ordinal)) in webhooks_called(run):
        return
    outcome = report.outcome[:_OUTCOME_CHARS_MAX]
    entry = (WEBHOOK, f"{ordinal} {outcome}")
    turn.record(run, m.RunAnnotated(ordinal, entries=(entry,), who=agent))
