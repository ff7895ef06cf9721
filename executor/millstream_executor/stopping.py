"""How attempts are ended that do not end by themselves, and what a dead worker leaves behind.

Cancelling is a request; only killing a process is certain. So an attempt that is still there
after its grace is killed with its process when it is alone in it. In a shared worker it is
reported as over, and the worker takes nothing new and is killed when the others are done, or
when its loop is blocked and the others cannot be done.
"""

from typing import Final

import msgspec

from millstream_events.reports import Cancel, Failed, Lost, Succeeded
from millstream_events.values import ErrorRecord
from millstream_executor.agent_state import SUSPECTS_MAX, AgentState, failed, suspect_of
from millstream_executor.crew import CrewMember
from millstream_executor.effects import KillWorker
from millstream_executor.fleet_types import WorkerExit
from millstream_executor.held import HeldAttempt, Stage
from millstream_executor.link import AttemptEnded, CancelAttempt, Ping, Pong

#: Grace of attempts that nobody waits for any more.
SILENT_GRACE_MS: Final = 1_000
#: A draining worker whose loop has not answered for this long is blocked.
BLOCKED_NS: Final = 5_000_000_000
#: Pause between a draining worker's answer and the next question.
PING_NS: Final = 1_000_000_000
#: A worker that was told to end and has not by then is killed.
DISMISSED_NS: Final = 5_000_000_000
#: `Cancel.why` of attempts whose outcome the leader has decided already.
_DECIDED: Final = ("timeout", "superseded")


def cancel(state: AgentState, order: Cancel, now_ns: int) -> None:
    """Carry out a cancel order; one for an attempt that is over already is void."""
    attempt = state.held.get(order.token)
    if attempt is None or attempt.muted:
        return
    if order.why in _DECIDED:
        attempt.muted = True
    _stop(state, attempt, order.why, order.grace_ms, now_ns)


def stop_silently(state: AgentState, attempt: HeldAttempt, why: str, now_ns: int) -> None:
    """End an attempt that does not count any more; nothing is reported of it."""
    attempt.muted = True
    _stop(state, attempt, why, SILENT_GRACE_MS, now_ns)


def cancelled(attempt: HeldAttempt, error: ErrorRecord | None) -> ErrorRecord:
    """Return the error of an attempt that was told to end, and did."""
    if error is not None and error.kind == "cancelled":
        return error
    return ErrorRecord("cancelled", "CancelledError", attempt.stop_why, retryable=False)


def escalate(state: AgentState, now_ns: int) -> None:
    """End what is over its grace, and look after draining workers."""
    overdue = [attempt for attempt in state.stopping.values() if attempt.kill_ns <= now_ns]
    for attempt in overdue:
        member = state.crew.members[attempt.worker]
        message = f"{attempt.stop_why}; still running after a grace of {attempt.grace_ms} ms"
        error = ErrorRecord("cancelled", "CancelledError", message, retryable=False)
        if not member.draining:
            member.draining = True
            state.draining[member.key] = member
        # The last one to leave a draining worker takes its process along.
        state.finish(attempt, failed(attempt, error), now_ns)
    for member in list(state.draining.values()):
        _watch_draining(state, member, now_ns)
    for key, since_ns in list(state.dismissed.items()):
        if now_ns - since_ns > DISMISSED_NS:
            del state.dismissed[key]
            state.effects.append(KillWorker(key, "did not end by itself"))


def ponged(member: CrewMember, message: Pong, now_ns: int) -> None:
    """Note that a worker's loop is alive."""
    if message.number == member.pinged_ns:
        member.pinged_ns = 0
        member.ponged_ns = now_ns


def worker_gone(state: AgentState, key: str, end: WorkerExit, now_ns: int) -> None:
    """Report every attempt that was in a worker whose process has ended."""
    member = state.crew.members.get(key)
    if member is None:
        return
    tokens = list(member.held)
    sharers = len(tokens)
    state.draining.pop(key, None)
    state.dismissed.pop(key, None)
    if not member.killed:
        # Nothing is told to it any more, and nothing new is given to it below.
        state.crew.retire(member, "its process ended")
        if sharers > 1:
            _suspect(state, tokens)
    for token in tokens:
        attempt = state.held[token]
        state.finish(attempt, _end_of(attempt, member, end, sharers), now_ns)
    state.crew.remove(key)
    state.messages.pop(key, None)


def worker_unusable(state: AgentState, member: CrewMember, error: ErrorRecord, now_ns: int) -> None:
    """Fail every attempt of a worker that cannot serve, and end it."""
    reported = msgspec.structs.replace(error, kind="dependency", retryable=False)
    state.kill(member, "unusable")
    for token in list(member.held):
        attempt = state.held[token]
        state.finish(attempt, failed(attempt, reported), now_ns)


def _stop(state: AgentState, attempt: HeldAttempt, why: str, grace_ms: int, now_ns: int) -> None:
    if attempt.stage == Stage.QUEUED or attempt.stage == Stage.FETCHING:
        attempt.stop_why = why
        state.finish(attempt, failed(attempt, cancelled(attempt, None)), now_ns)
        return
    kill_ns = now_ns + grace_ms * 1_000_000
    if attempt.stop_why:
        # A second order may shorten the grace, never lengthen it.
        attempt.kill_ns = min(attempt.kill_ns, kill_ns)
        return
    attempt.stop_why = why
    attempt.grace_ms = grace_ms
    attempt.kill_ns = kill_ns
    state.stopping[attempt.token] = attempt
    state.tell(state.crew.members[attempt.worker], CancelAttempt(attempt.token, why))


def _watch_draining(state: AgentState, member: CrewMember, now_ns: int) -> None:
    if member.pinged_ns:
        if now_ns - member.pinged_ns > BLOCKED_NS:
            state.kill(member, "its loop is blocked")
            for token in list(member.held):
                attempt = state.held[token]
                work = attempt.work
                item = Lost(work.run, work.action, token, "worker-blocked")
                state.finish(attempt, item, now_ns)
    elif now_ns - member.ponged_ns > PING_NS:
        member.pinged_ns = now_ns
        state.tell(member, Ping(now_ns))


def _end_of(
    attempt: HeldAttempt, member: CrewMember, end: WorkerExit, sharers: int
) -> Failed | Lost:
    """Return the report of an attempt whose worker has ended under it."""
    work = attempt.work
    if attempt.stop_why:
        return failed(attempt, cancelled(attempt, None))
    memory = (("limit_bytes", end.limit_bytes), ("peak_bytes", end.peak_bytes))
    if end.oom and sharers == 1:
        message = f"used {end.peak_bytes} bytes; its limit is {end.limit_bytes}"
        return failed(attempt, ErrorRecord("oom", "OOMError", message, figures=memory))
    figures: tuple[tuple[str, int], ...] = (("signal", end.signal), ("status", end.status))
    if end.oom:
        figures += memory
    why = "worker-crashed" if member.ready else "worker-not-started"
    return Lost(work.run, work.action, work.token, why, figures)


def _suspect(state: AgentState, tokens: list[bytes]) -> None:
    """Remember who shared a worker that crashed: one of them did it."""
    for token in tokens:
        suspect = suspect_of(state.held[token].work)
        state.suspects[suspect] = state.suspects.pop(suspect, 0) + 1
        if len(state.suspects) > SUSPECTS_MAX:
            del state.suspects[next(iter(state.suspects))]


def outcome(attempt: HeldAttempt, message: AttemptEnded) -> Succeeded | Failed:
    """Return the report of an attempt that its worker says is over."""
    work = attempt.work
    error = message.error
    if attempt.stop_why:
        error = cancelled(attempt, error)
    which = (work.run, work.action, work.token)
    began_ns, ended_ns, usage = message.started_ns, message.ended_ns, message.usage
    if error is None:
        output, items, made = message.output, message.items, message.produced
        worker = attempt.worker
        return Succeeded(*which, output, worker, began_ns, ended_ns, usage, items, made)
    return Failed(*which, error, attempt.worker, began_ns, ended_ns, usage)
