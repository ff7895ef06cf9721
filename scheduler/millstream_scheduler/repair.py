"""What a new leader finishes: follow-ups of events whose own frame did not land any more.

A tick's events of one run may fill several frames, and the former leader may have died between
two of them. What was decided in the lost ones is decided again here, before anything is heard.
"""

from millstream_events.phases import State
from millstream_events.state import ActionState, RunState
from millstream_events.values import ErrorRecord
from millstream_scheduler.caching import take_up
from millstream_scheduler.outcomes import (
    abort_below,
    abort_open,
    finish_aborted,
    finish_run,
    settle_failure,
)
from millstream_scheduler.recovery import recover
from millstream_scheduler.turn import Turn


def repair(turn: Turn) -> None:
    """Bring every open run to where its events lead. Changes nothing when nothing was lost."""
    for run_id in list(turn.book.depths):
        run = turn.state.runs[run_id]
        if run.aborting and run.open_actions:
            abort_open(turn, run)
        for ordinal in range(len(run.actions)):
            _repair_action(turn, run, ordinal)
        finish_run(turn, run)
    take_up(turn)


def _repair_action(turn: Turn, run: RunState, ordinal: int) -> None:
    action = run.actions[ordinal]
    if action.terminal:
        if action.open_children:
            abort_below(turn, run, ordinal, why="parent-ended")
    elif action.state == State.FAILING:
        settle_failure(turn, run, ordinal, error_of(action))
    elif action.state == State.ABORTING:
        if action.token:
            return  # `rebuild` has set its grace timer; its agent is told when it says Hello.
        finish_aborted(turn, run, ordinal)
    elif action.state in (State.READY, State.HELD) and ordinal and not action.dispatched_ns:
        recover(turn, run, ordinal)


def error_of(action: ActionState) -> ErrorRecord:
    """Return what ended the attempt of a FAILING action, from what the fold has kept."""
    last = action.history[-1] if action.history else None
    if last is None or last.attempt != action.attempt:
        return ErrorRecord("timeout", "MaxQueuedTimeExceededError", "queued for too long")
    if last.outcome == "lost":
        retryable = action.rules.idempotent
        return ErrorRecord("system", "WorkerLostError", last.why, retryable=retryable)
    if last.error is not None:
        return last.error
    return ErrorRecord("timeout", "MaxRuntimeExceededError", "running for too long")
