"""Equal values of the folded state as one object.

The actions of a fan-out name one task and the runs of a project one project, but each record of
the log is decoded by itself. Called by the fold alone, of values that nothing changes.
"""

from functools import lru_cache
from sys import intern
from typing import Final

from millstream_events.values import Inline, Policy, TaskRef, Value

#: Values of each kind that are remembered; one that was forgotten takes memory again.
_REMEMBERED_MAX: Final = 1_024


@lru_cache(maxsize=_REMEMBERED_MAX)
def one_task(task: TaskRef) -> TaskRef:
    """Return the first task reference that said what `task` says."""
    return task


@lru_cache(maxsize=_REMEMBERED_MAX)
def one_policy(policy: Policy | None) -> Policy | None:
    """Return the first policy that said what `policy` says."""
    return policy


@lru_cache(maxsize=_REMEMBERED_MAX)
def one_digest(digest: bytes) -> bytes:
    """Return the first digest of this content; for those that many runs have."""
    return digest


@lru_cache(maxsize=_REMEMBERED_MAX)
def one_mapping(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return the first mapping that said what `pairs` says, in their order."""
    return pairs


def with_one_codec(value: Value | None) -> Value | None:
    """Return `value` with the one name of its codec."""
    return Inline(intern(value.codec), value.content) if type(value) is Inline else value
