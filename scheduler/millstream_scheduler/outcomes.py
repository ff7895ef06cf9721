"""What follows when an attempt or an action ends: retry, release, cascade, the run's end."""

from typing import Final

from millstream_events import model as m
from millstream_events.commands import RunReleased
from millstream_events.phases import Phase, State
from millstream_events.reports import Cancel, Release
from millstream_events.state import ActionState, RunState
from millstream_events.values import ErrorRecord
from millstream_scheduler.assign import next_host
from millstream_scheduler.book import GRACE_MARGIN_MS, Ending
from millstream_scheduler.retry import next_attempt
from millstream_scheduler.timers import Due
from millstream_scheduler.turn import Turn

#: Actions that one step of a tick aborts at most, of those that only wait in a queue.
ENDED_MAX: Final = 2_048


def settle_failure(turn: Turn, run: RunState, ordinal: int, error: ErrorRecord) -> None:
    """Decide what follows a failure that has just been recorded: another attempt, or the end."""
    action = run.actions[ordinal]
    if action.state == State.ABORTING:
        finish_aborted(turn, run, ordinal)
        return
    assert action.state == State.FAILING, action.state
    retry = None if run.aborting else next_attempt(run.id, action, error)
    if retry is None:
        phase = Phase.TIMED_OUT if error.kind == "timeout" else Phase.FAILED
        turn.record(
            run,
            m.ActionFinished(ordinal, action.attempt, action.last_rev, phase=phase, error=error),
        )
        action_ended(turn, run, ordinal)
        return
    due_ms = turn.now_ms + retry.delay_ms if retry.delay_ms else 0
    turn.record(
        run,
        m.RetryScheduled(
            ordinal, retry.attempt, action.last_rev, due_ms=due_ms, budget=retry.budget
        ),
    )
    if due_ms:
        turn.book.timers.add(Due(due_ms, "backoff", run.id, ordinal, retry.attempt))
    else:
        turn.book.make_ready(run, ordinal)


def finish_aborted(turn: Turn, run: RunState, ordinal: int) -> None:
    """End an aborted action whose attempt is gone."""
    action = run.actions[ordinal]
    phase = Phase.TIMED_OUT if action.abort_timed_out else Phase.ABORTED
    turn.record(
        run,
        m.ActionFinished(
            ordinal, action.attempt, action.last_rev, phase=phase, error=_abort_error(action)
        ),
    )
    action_ended(turn, run, ordinal)


def action_ended(turn: Turn, run: RunState, ordinal: int) -> None:
    """Follow up a terminal event: end the children, tell the parent, end the run."""
    action = run.actions[ordinal]
    if action.open_children:
        abort_below(turn, run, ordinal, why="parent-ended")
    if action.node:
        turn.book.to_walk.append((run.id, action.parent, ordinal))
    elif ordinal:
        release_to_parent(turn, run, ordinal)
    finish_run(turn, run)


def release_to_parent(turn: Turn, run: RunState, ordinal: int) -> None:
    """Give a child's outcome to the parent's current attempt, once it is durable."""
    action = run.actions[ordinal]
    parent = run.actions[action.parent]
    if parent.token:
        turn.order_durable(
            parent.agent,
            Release(
                run.id,
                parent.token,
                action.id,
                ordinal,
                action.phase,
                action.output,
                action.error,
            ),
        )


def finish_run(turn: Turn, run: RunState) -> None:
    """End the run when its root is terminal and nothing is open (rule F11)."""
    if run.open_actions or run.finished or not run.actions:
        return
    root = run.actions[0]
    succeeded = root.state in (State.SUCCEEDED, State.RECOVERED)
    turn.record(
        run,
        m.RunFinished(
            0,
            cause=root.ended_rev,
            phase=Phase.SUCCEEDED if succeeded else root.phase,
            output=root.output,
            error=None if succeeded else root.error,
        ),
    )
    turn.book.late.ended(run.id, turn.now_ns - run.created_ns)
    for client in turn.book.watchers.pop(run.id, ()):
        released = run_released(run, next_host(turn, run))
        turn.effects.clients_durable[client].append(released)
    turn.book.close_run(run)


def run_released(run: RunState, host: str = "") -> RunReleased:
    """Return what a client hears of a run that is over.

    Args:
        run: The run.
        host: As `assign.next_host` gives it.
    """
    return RunReleased(run.id, run.phase, run.output, run.error, run.rev, host)


# ------------------------------------------------------------------ aborts


def abort_action(
    turn: Turn,
    run: RunState,
    ordinal: int,
    *,
    why: str,
    who: str = "",
    reason: str = "",
    timed_out: bool = False,
    source: bytes = b"",
) -> None:
    """Abort an open action and all below it, deepest last, in this tick's frames.

    What is not live ends at once; a live attempt is told to end and given its grace period.
    """
    if run.actions[ordinal].terminal or run.actions[ordinal].state == State.ABORTING:
        return
    _abort_covered(
        turn,
        run,
        _open_below(run, ordinal),
        why=why,
        who=who,
        reason=reason,
        timed_out=timed_out,
        source=source,
    )


def _abort_covered(
    turn: Turn,
    run: RunState,
    covered: list[int],
    *,
    why: str,
    who: str,
    reason: str,
    timed_out: bool,
    source: bytes,
) -> None:
    """Abort these actions, of which the first is the one that was asked for."""
    if len(covered) > ENDED_MAX:
        later = [each for each in covered[1:] if _only_waits(run.actions[each])]
        covered = [covered[0], *(e for e in covered[1:] if not _only_waits(run.actions[e]))]
        turn.book.endings.append(Ending(run.id, later, "parent-aborted", who, reason, source))
    for each in covered:
        action = run.actions[each]
        first = each == covered[0]
        turn.record(
            run,
            m.ActionAbortRequested(
                each,
                action.attempt,
                action.last_rev,
                source,
                who=who,
                why=why if first else "parent-aborted",
                reason=reason,
                timed_out=timed_out and first,
            ),
        )
        if action.token:
            cancel_attempt(turn, action, "aborted")
            watch_grace(turn, run, each)
    for each in reversed(covered):
        action = run.actions[each]
        if not action.terminal and not action.token:
            finish_aborted(turn, run, each)


def watch_grace(turn: Turn, run: RunState, ordinal: int) -> None:
    """Set the timer after which an aborted attempt's answer is waited for no longer."""
    action = run.actions[ordinal]
    due_ms = turn.now_ms + action.rules.grace_ms + GRACE_MARGIN_MS
    turn.book.timers.add(Due(due_ms, "grace", run.id, ordinal, action.attempt))


def _open_below(run: RunState, ordinal: int) -> list[int]:
    """Return the open actions of a subtree that an abort covers, parents first.

    A loop, not a recursion: nesting may be thousands deep.
    """
    covered: list[int] = []
    pending = [ordinal]
    while pending:
        each = pending.pop()
        action = run.actions[each]
        if action.terminal or action.state == State.ABORTING:
            continue
        covered.append(each)
        pending.extend(child for child in action.children if not run.actions[child].rules.detached)
    return covered


def abort_below(turn: Turn, run: RunState, ordinal: int, *, why: str) -> None:
    """End the open children of an action that is over, at once: nobody waits for them."""
    pending = list(run.actions[ordinal].children)
    later: list[int] = []
    ended = 0
    while pending:
        child = pending.pop()
        action = run.actions[child]
        if action.terminal or action.rules.detached:
            continue
        ended += 1
        if ended > ENDED_MAX and _only_waits(action):
            later.append(child)
            continue
        if action.state != State.ABORTING:
            turn.record(
                run, m.ActionAbortRequested(child, action.attempt, action.last_rev, why=why)
            )
        if action.token:
            cancel_attempt(turn, action, "aborted")
        turn.record(
            run,
            m.ActionFinished(
                child,
                action.attempt,
                action.last_rev,
                phase=Phase.ABORTED,
                error=_abort_error(action),
            ),
        )
        pending.extend(action.children)
    if later:
        turn.book.endings.append(Ending(run.id, later, why, "", "", b""))


def _only_waits(action: ActionState) -> bool:
    """Say whether nobody but a queue knows of the action."""
    waits = action.state in (State.READY, State.HELD)
    return waits and not action.children and not action.cache_key


def end_waiting(turn: Turn) -> None:
    """Abort some of the many that were left to be aborted; nothing else is decided meanwhile."""
    left = ENDED_MAX
    endings = turn.book.endings
    while endings and left > 0:
        ending = endings[0]
        run = turn.state.runs[ending.run]
        part = ending.ordinals[-left:]
        del ending.ordinals[-left:]
        left -= len(part)
        for each in part:
            action = run.actions[each]
            if action.terminal:
                continue
            event = m.ActionAbortRequested(
                each,
                action.attempt,
                action.last_rev,
                ending.source,
                who=ending.who,
                why=ending.why,
                reason=ending.reason,
            )
            turn.record(run, event)
            finish_aborted(turn, run, each)
        if not ending.ordinals:
            endings.popleft()


def cancel_attempt(turn: Turn, action: ActionState, why: str) -> None:
    """Tell the agent to end the action's current attempt."""
    turn.order_now(action.agent, Cancel(action.token, action.rules.grace_ms, why))


def abort_run(
    turn: Turn, run: RunState, *, who: str, why: str, timed_out: bool, source: bytes = b""
) -> None:
    """Abort a whole run."""
    if run.finished or run.aborting:
        return
    turn.record(
        run,
        m.RunAbortRequested(0, 0, 0, source, who=who, why=why, timed_out=timed_out),
    )
    abort_open(turn, run, source=source)
    finish_run(turn, run)


def abort_open(turn: Turn, run: RunState, *, source: bytes = b"") -> None:
    """Abort whatever is open in a run that is being aborted, detached children included."""
    covered = [
        ordinal
        for ordinal, action in enumerate(run.actions)
        if not action.terminal and action.state != State.ABORTING
    ]
    _abort_covered(
        turn,
        run,
        covered,
        why="run-aborted",
        who=run.abort_who,
        reason=run.abort_why,
        timed_out=run.abort_timed_out,
        source=source,
    )


def _abort_error(action: ActionState) -> ErrorRecord:
    if action.abort_timed_out:
        return ErrorRecord(
            "timeout",
            "DeadlineExceededError",
            action.abort_reason or "the deadline has passed",
            retryable=False,
        )
    by = f" by {action.abort_who}" if action.abort_who else ""
    text = action.abort_reason or action.abort_why
    return ErrorRecord("cancelled", "ActionAbortedError", f"aborted{by}: {text}", retryable=False)
