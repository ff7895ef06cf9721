"""What a fork would take over: the earlier actions against the code that is here."""

import sys
from typing import Any, Final, cast

from millstream._client import Client
from millstream._reader import RunHistory, read_run
from millstream._task import Task
from millstream._views import Json, View
from millstream_events.ids import show_action
from millstream_events.phases import SUCCESS_PHASES
from millstream_events.state import ActionState, RunState
from millstream_events.values import TaskRef

#: Runs of a chain of recoveries that are looked at, as the leader does.
CHAIN_RUNS_MAX: Final = 32

#: What becomes of an earlier action.
REUSED: Final = "reused"
#: It lies below one that is reused, so nobody asks for it.
INSIDE: Final = "inside-reused"
CODE_CHANGED: Final = "code-changed"
CALLER_CHANGED: Final = "caller-changed"
#: No module that is loaded here has its task.
NOT_FOUND: Final = "task-not-found"
NOT_SUCCEEDED: Final = "did-not-succeed"


async def preview_fork(client: Client, history: RunHistory, task: Task[..., Any]) -> list[View]:
    """Return one row for each earlier action, the root aside, and what becomes of it.

    It compares code only: with other inputs, or other calls, less may be reused.

    Args:
        client: Where the runs are.
        history: The run to fork.
        task: The new root task; its environment's tasks are looked at first.
    """
    rows: list[View] = []
    seen: set[bytes] = set()
    excluded: set[bytes] = set()
    run: RunState | None = history.state
    for _ in range(CHAIN_RUNS_MAX):
        if run is None:
            break
        _add(run, task, rows, seen, excluded)
        origin = run.origin
        if origin is None or origin.mode == "rerun":
            break
        excluded.update(origin.forced)
        found = await read_run(client.log, origin.run)
        run = None if found is None else found.state
    return rows


def counts_of(rows: list[View]) -> dict[str, Json]:
    """Return how many actions each verdict is for."""
    counts: dict[str, Json] = {}
    for row in rows:
        verdict = str(row["verdict"])
        before = counts.get(verdict, 0)
        assert isinstance(before, int)
        counts[verdict] = before + 1
    return counts


def _add(
    run: RunState, task: Task[..., Any], rows: list[View], seen: set[bytes], excluded: set[bytes]
) -> None:
    verdicts: dict[int, str] = {}
    for ordinal, action in enumerate(run.actions):
        if ordinal == 0:
            verdicts[0] = NOT_SUCCEEDED  # Executed again, and so are those below that miss.
            continue
        verdicts[ordinal] = verdict = _verdict(action, verdicts[action.parent], task)
        if action.id in seen or action.id in excluded:
            continue
        seen.add(action.id)
        rows.append(
            {
                "run": run.name or run.id,
                "action": show_action(ordinal),
                "task": action.task.name,
                "kind": action.kind,
                "phase": str(action.phase),
                "verdict": verdict,
            }
        )


def _verdict(action: ActionState, caller: str, task: Task[..., Any]) -> str:
    if caller in (REUSED, INSIDE):
        return INSIDE
    if caller in (CODE_CHANGED, CALLER_CHANGED, NOT_FOUND):
        return CALLER_CHANGED
    if action.kind in ("task", "map"):
        here = _task_here(action.task, task)
        if here is None:
            return NOT_FOUND
        if here.ref().identity != action.task.identity:
            return CODE_CHANGED
    if action.phase not in SUCCESS_PHASES or action.kind == "timer":
        return NOT_SUCCEEDED
    return REUSED


def _task_here(ref: TaskRef, task: Task[..., Any]) -> Task[..., Any] | None:
    near = task.environment.tasks.get(ref.name)
    if near is not None:
        return near
    found: object = sys.modules.get(ref.module)
    for part in ref.qualname.split("."):
        found = getattr(found, part, None)
    return cast("Task[..., Any]", found) if isinstance(found, Task) else None
