"""Equal values of the folded state as one object.

The actions of a fan-out name one task and the runs of a project one project, but each record of
the log is decoded by itself. Called by the fold alone, of values that nothing changes.
"""

from functools import lru_cache
from sys import intern
from typing import Final

from millstream_events.values import Inline, Policy, TaskRef, Value

#: Tasks and policies that are remembered, of each; one that was forgotten takes memory again.
_REMEMBERED_MAX: Final = 1_024


@lru_cache(maxsize=_REMEMBERED_MAX)
def shared_task(task: TaskRef) -> TaskRef:
    """Return the first task reference that said what `task` says."""
    return task


@lru_cache(maxsize=_REMEMBERED_MAX)
def shared_policy(policy: Policy | None) -> Policy | None:
    """Return the first policy that said what `policy` says."""
    return policy


def shared_codec(value: Value | None) -> Value | None:
    """Return `value` with the name of its codec shared."""
    return Inline(intern(value.codec), value.content) if type(value) is Inline else value
