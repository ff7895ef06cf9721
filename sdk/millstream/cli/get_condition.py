"""`millstream get condition`: what runs ask, and what was answered."""

from typing import Annotated, Final

from cyclopts import Parameter

from millstream._reader import list_runs
from millstream._views import View, condition_view, open_condition
from millstream.cli.outcome import DONE
from millstream.cli.output import DEFAULTS, OutputOptions, emit
from millstream.cli.reach import CONFIGURED, PlaceOptions, Reached, on_cluster, ordinal_of
from millstream_events.state import RunState

_COLUMNS: Final = ("name", "run", "action", "phase", "type", "prompt", "value", "due_at")


def get_condition(
    run: str = "",
    action: str = "",
    /,
    *,
    waiting: Annotated[bool, Parameter(negative="")] = False,
    where: PlaceOptions = CONFIGURED,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Show the conditions of a run, or what all runs together wait for.

    Args:
        run: Id or name of one run; without it, every condition that waits.
        action: Such as `a3`: only conditions of this parent.
        waiting: Only those that wait for an answer.
        where: Project and domain of the run.
        common: Options of every command.
    """

    async def body(place: Reached) -> list[View]:
        if not run:
            runs = await list_runs(place.log)
            return [view for state in runs for view in _views(state, waiting=True)]
        state = (await place.history(run)).state
        parent = ordinal_of(action, state) if action else None
        return _views(state, waiting=waiting, parent=parent)

    emit(on_cluster(body, where=where), common.output, columns=_COLUMNS)
    return DONE


def _views(state: RunState, *, waiting: bool, parent: int | None = None) -> list[View]:
    return [
        condition_view(state, ordinal)
        for ordinal, action in enumerate(state.actions)
        if action.kind == "condition"
        and (open_condition(action) or not waiting)
        and (parent is None or action.parent == parent)
    ]
