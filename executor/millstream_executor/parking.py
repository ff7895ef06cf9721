"""How an attempt gives its slot back while it waits for children, and gets one again.

A waiter holds no slot, so nested calls cannot deadlock: with one slot and any depth, the slot
is always with somebody who can run. A release passes at once while other children are still
pending; the last one needs a slot first, and whoever goes on is served before new work.
"""

from typing import Final

from millstream_events.reports import (
    AskChildren,
    AskJournal,
    CancelChild,
    JournalPage,
    OpenCondition,
    Parked,
    Refuse,
    Release,
    SetTimer,
    StartAction,
    Started,
)
from millstream_executor import eager
from millstream_executor.agent_state import AgentState
from millstream_executor.held import HeldAttempt, Stage
from millstream_executor.link import (
    Deliver,
    DeliverJournal,
    DeliverRefusal,
    ToWorker,
)

#: `Parked` is reported of attempts that wait for longer than this.
PARKED_NS: Final = 1_000_000_000
#: `Started` is reported of attempts that run for longer than this.
STARTED_NS: Final = 50_000_000
#: Children that are open for longer than this are asked for, again and again.
ASK_NS: Final = 5_000_000_000
#: Ids in one `AskChildren`.
ASK_IDS_MAX: Final = 2_000
#: Once so many children have been asked for, the other attempts' wait for the next round.
ASK_ROUND_MAX: Final = 16_000


def call(
    state: AgentState,
    attempt: HeldAttempt,
    item: StartAction | SetTimer | OpenCondition,
    now_ns: int,
    begun: bytes = b"",
) -> None:
    """Forward a call of `attempt`, which waits from now on.

    Args:
        state: The agent's state.
        attempt: Whose call it is.
        item: The call.
        now_ns: Monotonic time.
        begun: Token of the child if it has begun in its parent's worker.
    """
    if _nested_too_deeply(state, attempt):
        bound = state.settings.parked_alone_max
        reason = f"{bound} waiting worker processes are the most that this agent may hold"
        refusal = Refuse(item.run, item.token, item.id, "nesting-too-deep", reason)
        state.tell(state.crew.members[attempt.worker], DeliverRefusal(refusal))
        return
    if not attempt.pending:
        attempt.asked_ns = now_ns
    # One that is repeated may run here or elsewhere already.
    repeated = item.id in attempt.pending
    attempt.pending[item.id] = now_ns
    if attempt.stage == Stage.RUNNING or attempt.stage == Stage.RESUMING:
        _park(state, attempt, now_ns)
    # One that has begun is never begun again, though the room that was there when it was
    # permitted may have gone: its code has run, in the place that its parent has given back.
    if isinstance(item, StartAction) and (
        begun or (not repeated and eager.may_begin(state, attempt, item, now_ns))
    ):
        item = eager.begin(state, attempt, item, now_ns, begun)
    state.report(item, now_ns)


def release(state: AgentState, order: Release, now_ns: int) -> None:
    """Pass a child's outcome on, at once or as soon as its parent has a slot."""
    attempt = state.held.get(order.token)
    if attempt is not None:
        _deliver(state, attempt, order.id, Deliver(order), now_ns)


def refuse(state: AgentState, order: Refuse, now_ns: int) -> None:
    """Pass the refusal of a call on, like a release.

    A call that may be repeated later goes on waiting, without a slot: its worker repeats it.
    """
    attempt = state.held.get(order.token)
    if attempt is not None and order.retry_after_ms > 0:
        if order.id in attempt.pending:
            state.tell(state.crew.members[attempt.worker], DeliverRefusal(order))
    elif attempt is not None:
        _deliver(state, attempt, order.id, DeliverRefusal(order), now_ns)


def drop(state: AgentState, attempt: HeldAttempt, child: bytes, now_ns: int, *, keep: bool) -> None:
    """Note that `attempt` does not wait for this child any more; have it cancelled, or keep it."""
    if attempt.pending.pop(child, None) is None:
        return
    work = attempt.work
    if not attempt.muted and not keep:
        state.report(CancelChild(work.run, work.action, work.token, child), now_ns)
    if not attempt.pending and attempt.stage == Stage.PARKED:
        _queue_again(state, attempt, now_ns)


def want_journal(state: AgentState, attempt: HeldAttempt, start: int) -> None:
    """Ask the leader for more of the journal, and remember that it is missing."""
    work = attempt.work
    attempt.journal_start = start
    state.notes.append(AskJournal(work.run, work.action, work.token, start))


def journal_page(state: AgentState, page: JournalPage) -> None:
    """Pass a page of the journal on."""
    attempt = state.held.get(page.token)
    if attempt is not None and attempt.journal_start >= 0:
        attempt.journal_start = -1
        state.tell(state.crew.members[attempt.worker], DeliverJournal(page))


def ask_again(state: AgentState, now_ns: int, *, everything: bool) -> None:
    """Ask the leader what became of open children and of journals that have not come.

    Args:
        state: The agent's state.
        now_ns: Monotonic time.
        everything: After a new epoch or a reconnect, when anything may have been lost; else
            only what has been open for `ASK_NS` since it was last asked for. Of very many
            children not all are asked for at once: that would keep the leader from its work.
    """
    oldest_ns = now_ns if everything else now_ns - ASK_NS
    due: list[HeldAttempt] = []
    for attempt in state.held.values():
        if attempt.muted:
            continue
        work = attempt.work
        if attempt.journal_start >= 0:
            start = attempt.journal_start
            state.notes.append(AskJournal(work.run, work.action, work.token, start))
        if attempt.pending and attempt.asked_ns <= oldest_ns:
            due.append(attempt)
            if everything:
                attempt.asked_ns = 0
    left = ASK_ROUND_MAX
    for attempt in sorted(due, key=lambda each: each.asked_ns):
        if left <= 0:
            break
        work = attempt.work
        ids = [child for child, since_ns in attempt.pending.items() if since_ns <= oldest_ns]
        left -= len(ids)
        attempt.asked_ns = now_ns
        for first in range(0, len(ids), ASK_IDS_MAX):
            part = tuple(ids[first : first + ASK_IDS_MAX])
            state.notes.append(AskChildren(work.run, work.action, work.token, part))


def report_slow(state: AgentState, now_ns: int) -> None:
    """Report what has been running, and what has been parked, for long enough to matter."""
    while state.fresh_starts:
        attempt = next(iter(state.fresh_starts.values()))
        if now_ns - attempt.began_ns <= STARTED_NS:
            break
        report_started(state, attempt, now_ns)
    while state.fresh_parks:
        attempt = next(iter(state.fresh_parks.values()))
        if now_ns - attempt.parked_ns <= PARKED_NS:
            break
        del state.fresh_parks[attempt.token]
        work = attempt.work
        if not attempt.muted:
            state.report(Parked(work.run, work.action, work.token), now_ns)


def report_started(state: AgentState, attempt: HeldAttempt, now_ns: int) -> None:
    """Report that an attempt runs, once."""
    if state.fresh_starts.pop(attempt.token, None) is None or attempt.muted:
        return
    work = attempt.work
    pid = state.crew.members[attempt.worker].pid
    started = Started(work.run, work.action, work.token, attempt.worker, pid, attempt.started_ns)
    state.report(started, now_ns)


def _nested_too_deeply(state: AgentState, attempt: HeldAttempt) -> bool:
    if not attempt.alone or attempt.stage == Stage.PARKED:
        return False
    return state.crew.parked_alone >= state.settings.parked_alone_max


def _park(state: AgentState, attempt: HeldAttempt, now_ns: int) -> None:
    state.move(attempt, Stage.PARKED, now_ns)
    if not attempt.has_parked:
        attempt.has_parked = True
        state.pace.parked(now_ns - attempt.slot_ns)
    attempt.parked_ns = now_ns
    state.fresh_parks[attempt.token] = attempt
    # It called again while it waited for a slot: what was kept back may pass now.
    member = state.crew.members[attempt.worker]
    for message in attempt.deliveries:
        state.tell(member, message)
    attempt.deliveries.clear()


def _deliver(
    state: AgentState, attempt: HeldAttempt, child: bytes, message: ToWorker, now_ns: int
) -> None:
    if attempt.pending.pop(child, None) is None:
        return
    if attempt.pending:
        state.tell(state.crew.members[attempt.worker], message)
    else:
        attempt.deliveries.append(message)
        _queue_again(state, attempt, now_ns)


def _queue_again(state: AgentState, attempt: HeldAttempt, now_ns: int) -> None:
    state.fresh_parks.pop(attempt.token, None)
    state.move(attempt, Stage.RESUMING, now_ns)
    state.resume.append(attempt)
