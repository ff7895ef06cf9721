"""Eager start: a child begins on its parent's own agent before the leader has heard of the call.

Design: architecture.md 2.8, "eager local lane". The agent spends one unit of its own credit,
draws the token, and sends both with the call; the leader records the call and the dispatch in
one frame, or declines with a `Forget`, and then dispatches as ever. Nothing is released before
it is durable, so this is the speculation that a leader's own early dispatch is. Credit that is
granted and not spent means that the leader has nothing else to place, so nobody is overtaken.

Until the leader says otherwise (`Adopted`) such an attempt does not know its ordinal and reports
under `UNKNOWN_ACTION`; the token tells who it is.
"""

from typing import Final

import msgspec

from millstream_events.ids import token_of
from millstream_events.ports import OutputBatch, OutputLine
from millstream_events.reports import UNKNOWN_ACTION, Adopted, StartAction, Work
from millstream_events.values import DEFAULT_POLICY, WORKER_ALONE, WORKER_ASYNC, Policy
from millstream_executor.agent_state import AgentState
from millstream_executor.effects import ShipOutput
from millstream_executor.held import HeldAttempt

#: A call that has begun here waits this long for company on its way up: most often that is
#: the child's own end, and one message and one frame carry both.
HOLD_NS: Final = 1_000_000
#: The leader must have heard of us this lately, which an acknowledgement proves: one that has
#: given a silent agent up (after `SchedulerConfig.agent_lost_ms`, which is longer) may have
#: started the caller elsewhere.
TRUST_NS: Final = 1_000_000_000
#: Lines kept of an attempt that does not know its ordinal yet; later ones are counted.
LINES_MAX: Final = 2_000
#: Settings of a policy that do not bear on where an action may run.
_INDIFFERENT: Final = (
    "worker",
    "retries",
    "backoff",
    "system_retries",
    "runtime_max_ms",
    "deadline_ms",
    "env_vars",
    "children_max",
    "grace_ms",
    "context",
    "wide",
    "links",
)


def may_begin(state: AgentState, parent: HeldAttempt, call: StartAction, now_ns: int) -> bool:
    """Say whether `call` may begin here at once, `parent` having given its slot back."""
    credit = state.credit
    if credit.granted <= credit.received or state.leaving or state.hello_due or not state.epoch:
        return False
    if now_ns - state.trusted_ns > TRUST_NS:
        return False
    if state.queue or state.resume or now_ns < state.no_room_until_ns:
        return False
    work = parent.work
    if work.attempt > 1 or work.journal or parent.stop_why or call.kind != "task":
        return False  # An earlier attempt may have made the same call.
    if work.recovers or work.limited:
        return False  # An earlier run may have; a queue's limit holds for every line of user code.
    bundle = bundle_of(work, call)
    if bundle and bundle != work.bundle and bundle not in state.bundles:
        return False
    policy = call.policy or DEFAULT_POLICY
    if call.cache_key or policy.worker == WORKER_ALONE or not _anywhere(policy):
        return False
    return state.has_slot(light=policy.worker == WORKER_ASYNC)


def begin(state: AgentState, parent: HeldAttempt, call: StartAction, now_ns: int) -> StartAction:
    """Queue the child of `call` here and return the call as the leader is to hear of it."""
    credit = state.credit
    credit.received += 1
    state.eager_count += 1
    if not state.held_back:
        state.held_back_ns = now_ns
    state.held_back += 1
    token = token_of(state.settings.incarnation.encode(), state.eager_count)
    above = parent.work
    work = Work(
        credit.generation,
        above.run,
        UNKNOWN_ACTION,
        call.id,
        1,
        token,
        call.task,
        call.inputs,
        bundle_of(above, call),
        call.policy,
        project=above.project,
        domain=above.domain,
        name=above.name,
        group=call.group,
        context=above.context,
        run_started_ms=above.run_started_ms,
        apps=above.apps,
    )
    policy = call.policy or DEFAULT_POLICY
    attempt = HeldAttempt(
        work=work,
        token=token,
        queued_ns=now_ns,
        light=policy.worker == WORKER_ASYNC,
        call_number=state.outbox.next,
    )
    state.hold(attempt)
    state.enqueue(attempt, now_ns)
    return msgspec.structs.replace(call, eager=token, generation=credit.generation)


def bundle_of(parent: Work, call: StartAction) -> bytes:
    """Return the digest of the code that the child of `call` needs."""
    return parent.bundle if call.task.deployed is None else call.task.deployed.bundle


def may_wait(state: AgentState, now_ns: int) -> bool:
    """Say whether all that there is to report are calls that have begun here just now."""
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


def _anywhere(policy: Policy) -> bool:
    """Say whether `policy` asks for nothing but a free slot."""
    if policy is DEFAULT_POLICY:
        return True
    return all(
        getattr(policy, name) == getattr(DEFAULT_POLICY, name)
        for name in policy.__struct_fields__
        if name not in _INDIFFERENT
    )
