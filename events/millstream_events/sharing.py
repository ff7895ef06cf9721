"""Equal values of the folded state as one object.

The actions of a fan-out name one task and the runs of a project one project, but each record of
the log is decoded by itself, and so is each run of a snapshot. Called by the fold, of values that
nothing changes, and of a run that was just decoded.
"""

from functools import lru_cache
from sys import intern
from typing import Final

from millstream_events.state import ActionState, RunState, collapse
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


def share_decoded(run: RunState) -> None:
    """Let a decoded run share what a folded one does; it says the same afterwards."""
    run.project, run.domain = intern(run.project), intern(run.domain)
    run.who, run.phase = intern(run.who), intern(run.phase)
    run.bundle = one_digest(run.bundle)
    run.labels, run.context = one_mapping(run.labels), one_mapping(run.context)
    run.settings = one_mapping(run.settings)
    run.output = with_one_codec(run.output)
    if run.finished and not run.actions:
        collapse(run)
    for action in run.actions:
        _share_action(action)


#: Its collections are those of every action that has nothing in them.
_BARE: Final = ActionState(b"", 0, "task", TaskRef(""), None)


def _share_action(action: ActionState) -> None:
    action.kind, action.group = intern(action.kind), intern(action.group)
    action.pool, action.agent = intern(action.pool), intern(action.agent)
    action.worker = intern(action.worker)
    action.task, action.policy = one_task(action.task), one_policy(action.policy)
    action.inputs = with_one_codec(action.inputs)
    action.output = with_one_codec(action.output)
    action.children = action.children or _BARE.children
    action.history = action.history or _BARE.history
    action.kept = action.kept or _BARE.kept
