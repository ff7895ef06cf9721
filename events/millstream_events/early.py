"""Work that asks for nothing but a slot, so that it may begin before the leader has heard of it.

Leader, agents and clients decide by the same rule, so none of them has to ask another; and what an
agent reports of a run that its client has sent there as well (decision 34).
"""

from operator import attrgetter
from typing import Final

import msgspec

from millstream_events.commands import SubmitRun
from millstream_events.values import DEFAULT_POLICY, WORKER_ALONE, Policy

#: In `Hello.features`: the agent takes runs that their client has sent to it as well.
EARLY_RUNS: Final = "early-runs"
#: Settings of a policy that do not bear on where an action may run.
_INDIFFERENT: Final = frozenset(
    {
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
    }
)
_told: Final = attrgetter(
    *(name for name in DEFAULT_POLICY.__struct_fields__ if name not in _INDIFFERENT)
)
_TOLD_BY_DEFAULT: Final = _told(DEFAULT_POLICY)


def wants_only_a_slot(policy: Policy | None) -> bool:
    """Say whether an action with this policy may run wherever a slot is free."""
    if policy is None or policy is DEFAULT_POLICY:
        return True
    return policy.worker != WORKER_ALONE and _told(policy) == _TOLD_BY_DEFAULT


def may_begin_early(command: SubmitRun) -> bool:
    """Say whether nobody but an agent with a slot has to be asked before the run's root begins.

    A name may be taken, a plan is the leader's, and what is cached or recovered may have an
    outcome already.
    """
    return (
        not (command.name or command.kind or command.cache_key or command.settings)
        and command.origin is None
        and wants_only_a_slot(command.policy)
    )


class RunBegun(msgspec.Struct, frozen=True, array_like=True, tag=42):
    """The root of a run began here that its client had submitted here as well."""

    run: str
    #: Drawn by the agent, and the generation whose credit the attempt took.
    token: bytes
    generation: int


class RunDeclined(msgspec.Struct, frozen=True, array_like=True, tag=43):
    """There is no room here for a run that its client had submitted here as well.

    Not numbered: if it is lost, the leader has waited for it in vain, and that is all.
    """

    run: str
