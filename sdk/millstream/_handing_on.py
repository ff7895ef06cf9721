"""What an action hands on to the actions that it calls, beside their inputs.

It travels in the policy of the call, so that it is in the log, holds for every attempt, and is
handed on again from there, however deep the calls go.
"""

from typing import Final

import msgspec

from millstream._action_id import ActionID
from millstream._context import ActionContext
from millstream._custom_context import context_here
from millstream._kept import without_ours
from millstream._link import Link, links_of
from millstream_events.ids import action_name
from millstream_events.values import NO_NEEDS, Policy, RunWide

_NOTHING: Final = RunWide()


def handed_on(context: ActionContext, policy: Policy, links: tuple[Link, ...]) -> Policy:
    """Return the policy of a call made by the current code of `context`."""
    changes: dict[str, object] = {}
    strings = context_here(context)
    if strings != context.run_context:
        changes["context"] = tuple(sorted(strings.items()))
    if context.wide != _NOTHING:
        changes |= spread(context.wide, policy)
    if links:
        caller = ActionID(
            name=action_name(context.action_id),
            run_name=context.run,
            project=context.project,
            domain=context.domain,
        )
        changes["links"] = links_of(links, caller, without_ours(strings))
    return msgspec.structs.replace(policy, **changes) if changes else policy


def spread(wide: RunWide, policy: Policy) -> dict[str, object]:
    """Return what the run's own settings change in the policy of one of its actions."""
    changes: dict[str, object] = {"wide": wide}
    if wide.env_vars:
        variables = {**dict(policy.env_vars), **dict(wide.env_vars)}
        changes["env_vars"] = tuple(sorted(variables.items()))
    if wide.queue and not policy.queue:
        changes["queue"] = wide.queue
    needs = policy.needs or NO_NEEDS
    if wide.interruptible not in (None, needs.interruptible):
        changed = msgspec.structs.replace(needs, interruptible=wide.interruptible)
        changes["needs"] = None if changed == NO_NEEDS else changed
    return changes
