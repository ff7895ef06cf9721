"""Where two runs differ: actions that mean the same call, side by side."""

from collections import defaultdict
from collections.abc import Iterator

from millstream._views import Json, View, value_view
from millstream_events.ids import show_action
from millstream_events.phases import SUCCESS_PHASES
from millstream_events.state import ActionState, RunState


def diff_runs(a: RunState, b: RunState) -> View:
    """Return the differences between two runs, those of earlier calls first.

    Actions with the same id are the same call. Of the rest, calls of the same task by the same
    caller are paired in order: their code or their inputs differ. A success counts the same
    whether it was executed, cached or taken over; times are shown and do not count.
    """
    pairs, only_a, only_b = _paired(a, b)
    differences: list[Json] = []
    if a.shown_phase != b.shown_phase:
        differences.append(_difference("phase", None, None, a.shown_phase, b.shown_phase))
    for left, right in pairs:
        for what, of_a, of_b in _compared(a.actions[left], b.actions[right]):
            differences.append(_difference(what, left, right, of_a, of_b))
    differences += [_difference("missing", left, None, _task(a, left), None) for left in only_a]
    differences += [_difference("missing", None, right, None, _task(b, right)) for right in only_b]
    return {
        "a": a.name or a.id,
        "b": b.name or b.id,
        "same": not differences,
        "differences": differences,
        "actions": {"both": len(pairs), "only_a": len(only_a), "only_b": len(only_b)},
        "duration_ms": [_duration_ms(a), _duration_ms(b)],
    }


def _paired(a: RunState, b: RunState) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    match = {
        left: b.ordinals[action.id]
        for left, action in enumerate(a.actions)
        if action.id in b.ordinals
    }
    taken = set(match.values())
    waiting: defaultdict[tuple[int, str, str], list[int]] = defaultdict(list)
    for right, action in enumerate(b.actions):
        if right not in taken:
            waiting[action.parent, action.kind, action.task.name].append(right)
    for left, action in enumerate(a.actions):
        if left in match or action.parent not in match:
            continue
        # Callers come before what they call, so the caller's own pair is known by now.
        same = waiting[match[action.parent], action.kind, action.task.name]
        if same:
            match[left] = same.pop(0)
    found = set(match.values())
    return (
        sorted(match.items()),
        [left for left in range(len(a.actions)) if left not in match],
        [right for right in range(len(b.actions)) if right not in found],
    )


def _compared(a: ActionState, b: ActionState) -> Iterator[tuple[str, Json, Json]]:
    if a.task.name != b.task.name:
        yield "task", a.task.name, b.task.name
    elif a.task.identity != b.task.identity:
        yield "code", a.task.identity.hex(), b.task.identity.hex()
    if a.inputs != b.inputs or a.inputs_hash != b.inputs_hash:
        yield "inputs", value_view(a.inputs), value_view(b.inputs)
    both_succeeded = a.phase in SUCCESS_PHASES and b.phase in SUCCESS_PHASES
    if a.phase != b.phase and not both_succeeded:
        yield "phase", str(a.phase), str(b.phase)
    if a.output != b.output:
        yield "output", value_view(a.output), value_view(b.output)
    if not both_succeeded and _error(a) != _error(b):
        yield "error", _error(a), _error(b)


def _error(action: ActionState) -> str | None:
    error = action.error
    return None if error is None else f"{error.type}: {error.message}"


def _difference(
    what: str, left: int | None, right: int | None, of_a: Json, of_b: Json
) -> dict[str, Json]:
    return {
        "what": what,
        "action_a": None if left is None else show_action(left),
        "action_b": None if right is None else show_action(right),
        "a": of_a,
        "b": of_b,
    }


def _task(run: RunState, ordinal: int) -> str:
    return run.actions[ordinal].task.name


def _duration_ms(run: RunState) -> int | None:
    return (run.ended_ns - run.created_ns) // 1_000_000 if run.ended_ns else None
