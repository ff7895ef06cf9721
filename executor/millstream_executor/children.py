"""What an agent and its workers know alike of a child that begins before the leader's answer.

See `eager`: the agent begins a child on its own node, and a worker one in its own loop.
"""

from millstream_events.early import wants_only_a_slot
from millstream_events.reports import UNKNOWN_ACTION, StartAction, Work
from millstream_events.values import DEFAULT_POLICY, WORKER_ASYNC, Policy


def calls_early(parent: Work) -> bool:
    """Say whether what `parent` calls may begin before the leader has heard of it.

    Not when an earlier attempt, or an earlier run, may have made the same call; and not
    under a limit or a pause that somebody has set, which hold for every line of user code.
    """
    return not (parent.attempt > 1 or parent.journal or parent.recovers or parent.limited)


def asks_for_a_slot(call: StartAction) -> bool:
    """Say whether the child of `call` asks for nothing but a slot, anywhere."""
    return call.kind == "task" and not call.cache_key and wants_only_a_slot(call.policy)


def asks_for_this_loop(parent: Work, call: StartAction) -> bool:
    """Say whether the child of `call` may run in the loop that its parent runs in.

    One with a limit of time may not: code that blocks the loop would keep the news of its start
    back, and its time would never be up.
    """
    policy, own = call.policy or DEFAULT_POLICY, parent.policy or DEFAULT_POLICY
    return (
        policy.worker == WORKER_ASYNC
        and own.worker == WORKER_ASYNC
        and own.needs is None
        and not (policy.runtime_max_ms or policy.deadline_ms)
        and policy.env_vars == own.env_vars
        and call.task.code_in(parent.bundle) == parent.bundle
        and asks_for_a_slot(call)
    )


def child_work(parent: Work, call: StartAction, token: bytes, generation: int) -> Work:
    """Return the work that the child of `call` is, under a `token` of our own."""
    return Work(
        generation,
        parent.run,
        UNKNOWN_ACTION,
        call.id,
        1,
        token,
        call.task,
        call.inputs,
        call.task.code_in(parent.bundle),
        call.policy,
        project=parent.project,
        domain=parent.domain,
        name=parent.name,
        group=call.group,
        context=parent.context,
        run_started_ms=parent.run_started_ms,
        limited=parent.limited or (call.policy or DEFAULT_POLICY).children_max > 0,
        apps=parent.apps,
    )


def is_light(policy: Policy | None) -> bool:
    """Say whether an attempt with this policy shares a loop with others."""
    return (policy or DEFAULT_POLICY).worker == WORKER_ASYNC
