"""Eager start: a child begins on its parent's own agent before the leader has heard of the call.

Design: architecture.md 2.8, "eager local lane". The agent spends one unit of its own credit,
draws the token, and sends both with the call; the leader records the call and the dispatch in
one frame, or declines with a `Forget`, and then dispatches as ever. Nothing is released before
it is durable, so this is the speculation that a leader's own early dispatch is. Credit that is
granted and not spent means that the leader has nothing else to place, so nobody is overtaken.

A call that its worker has been permitted (`MayBegin`) begins in the loop of its parent, before
even the agent has heard of it; the agent then takes it over, if need be on credit that it has not
granted: what has begun is not begun a second time while nothing fails.

Until the leader says otherwise (`Adopted`) such an attempt does not know its ordinal and reports
under `UNKNOWN_ACTION`; the token tells who it is.
"""

from typing import Final

import msgspec

from millstream_events.ids import Token, token_of
from millstream_events.ports import OutputBatch, OutputLine
from millstream_events.reports import Adopted, StartAction
from millstream_executor.agent_state import AgentState
from millstream_executor.children import (
    asks_for_a_slot,
    calls_early,
    child_work,
    is_light,
)
from millstream_executor.effects import ShipOutput
from millstream_executor.held import HeldAttempt, Stage
from millstream_executor.link import MayNotBegin

#: A call that has begun here waits this long for company on its way up: most often that is
#: the child's own end, and one message and one frame carry both.
HOLD_NS: Final = 1_000_000
#: The leader must have heard of us this lately, which an acknowledgement proves: one that has
#: given a silent agent up (after `SchedulerConfig.agent_lost_ms`, which is longer) may have
#: started the caller elsewhere.
TRUST_NS: Final = 1_000_000_000
#: Lines kept of an attempt that does not know its ordinal yet; later ones are counted.
LINES_MAX: Final = 2_000


def permits(state: AgentState, parent: HeldAttempt, now_ns: int) -> bool:
    """Say whether the next call of `parent` may begin in its own worker, unasked.

    Only while tasks are very short: in another process a longer one would run beside its
    parent's other code, in the same loop it may block that.
    """
    return (
        parent.light
        and parent.kept is None
        and not parent.stop_why
        and state.pace.sharers > 1
        and calls_early(parent.work)
        and has_room(state, now_ns)
    )


def may_begin(state: AgentState, parent: HeldAttempt, call: StartAction, now_ns: int) -> bool:
    """Say whether `call` may begin here at once, `parent` having given its slot back."""
    if parent.stop_why or not has_room(state, now_ns) or not calls_early(parent.work):
        return False
    bundle = call.task.code_in(parent.work.bundle)
    if bundle and bundle != parent.work.bundle and bundle not in state.bundles:
        return False
    return asks_for_a_slot(call) and state.has_slot(light=is_light(call.policy))


def begin(
    state: AgentState, parent: HeldAttempt, call: StartAction, now_ns: int, begun: bytes = b""
) -> StartAction:
    """Begin the child of `call` here and return the call as the leader is to hear of it.

    Args:
        state: The agent's state.
        parent: Whose call it is.
        call: The call.
        now_ns: Monotonic time.
        begun: Token under which the child has begun in its parent's worker; empty: it has not,
            and is queued.
    """
    generation = spend(state, now_ns)
    token = begun or new_token(state)
    attempt = HeldAttempt(
        work=child_work(parent.work, call, token, generation),
        token=token,
        queued_ns=now_ns,
        light=is_light(call.policy),
        call_number=state.outbox.next,
    )
    state.hold(attempt)
    if begun:
        member = state.crew.members[parent.worker]
        attempt.worker = member.key
        member.held[token] = None
        state.move(attempt, Stage.RUNNING, now_ns)
    else:
        state.enqueue(attempt, now_ns)
    return msgspec.structs.replace(call, eager=token, generation=generation)


def spend(state: AgentState, now_ns: int) -> int:
    """Spend credit on something that begins here, and keep the word of it back for a moment.

    Returns:
        The generation whose credit it is.
    """
    state.credit.received += 1
    if not state.held_back:
        state.held_back_ns = now_ns
    state.held_back += 1
    return state.credit.generation


def new_token(state: AgentState) -> Token:
    """Draw the token of something that begins here."""
    state.eager_count += 1
    return token_of(state.settings.incarnation.encode(), state.eager_count)


def withdraw(state: AgentState, run: str) -> None:
    """Begin no child of what is held of a run any more, here or in a worker."""
    for attempt in state.held.values():
        if attempt.work.run == run and not attempt.work.limited:
            attempt.work = msgspec.structs.replace(attempt.work, limited=True)
            if attempt.worker:
                state.tell(state.crew.members[attempt.worker], MayNotBegin(attempt.token))


def may_wait(state: AgentState, now_ns: int) -> bool:
    """Say whether all that there is to report has begun here just now."""
    if not state.held_back or state.held_back != len(state.reports):
        return False
    if state.hello_due or state.ask_all_due or state.repeat_from or state.notes:
        return False
    return now_ns - state.held_back_ns < HOLD_NS


def adopted(state: AgentState, order: Adopted) -> None:
    """Take in the ordinal of an attempt, and ship what it has printed."""
    attempt = state.held.get(order.token)
    if attempt is not None:
        attempt.work = msgspec.structs.replace(attempt.work, action=order.action)
        run = attempt.work.run
    elif order.token in state.over:
        run = state.over[order.token][0]
        state.over[order.token] = (run, order.action)
    else:
        return
    printed = state.unplaced.pop(order.token, None)
    if printed is not None:
        lines, dropped = printed
        state.effects.append(ShipOutput(OutputBatch(run, order.action, tuple(lines), dropped)))


def keep_printed(state: AgentState, token: bytes, lines: tuple[OutputLine, ...]) -> bool:
    """Keep lines until the ordinal is known; say whether they are the first."""
    first = token not in state.unplaced
    kept, dropped = state.unplaced.get(token, ([], 0))
    room = max(LINES_MAX - len(kept), 0)
    kept.extend(lines[:room])
    state.unplaced[token] = (kept, dropped + len(lines[room:]))
    return first


def has_room(state: AgentState, now_ns: int) -> bool:
    """Say whether there is credit to spend and nothing that waits for it."""
    credit = state.credit
    if credit.granted <= credit.received or state.leaving or state.hello_due or not state.epoch:
        return False
    if now_ns - state.trusted_ns > TRUST_NS:
        return False
    return not (state.queue or state.resume or now_ns < state.no_room_until_ns)
