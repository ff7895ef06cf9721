"""`millstream replay`: a run as it was at some point, folded again from its log."""

from typing import Annotated, Final

from cyclopts import Parameter

from millstream._reader import At, read_run
from millstream._views import View, action_view, parse_time, run_view
from millstream.cli.outcome import DONE, NotFoundError, UsageError
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one
from millstream.cli.reach import Reached, on_cluster
from millstream_events.state import run_hash

_COLUMNS: Final = ("name", "parent", "task", "phase", "waits_for", "ended_at")


def replay(
    run: str,
    /,
    *,
    at: Annotated[str, Parameter(name="--at")] = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Fold a run's log again, up to a revision or a time.

    Args:
        run: Id or name.
        at: A revision, or a time such as 2026-01-31T12:00:00Z; the end if it is not given.
        common: Options of every command.
    """
    moment = parse_moment(at)

    async def body(place: Reached) -> View:
        history = await read_run(place.log, await place.run_id(run), at=moment)
        if history is None:
            raise NotFoundError(f"run {run} had no event yet at {at}")
        state = history.state
        actions = [action_view(state, ordinal) for ordinal in range(len(state.actions))]
        return {
            **run_view(state),
            "state_hash": run_hash(state).hex(),
            "records": len(history.entries),
            "tree": [*actions],
        }

    view = on_cluster(body)
    if common.output in {"table", "wide"}:
        tree = view.pop("tree")
        emit_one(view, common.output)
        rows = [row for row in tree if isinstance(row, dict)] if isinstance(tree, list) else []
        emit(rows, common.output, columns=_COLUMNS)
    else:
        emit_one(view, common.output)
    return DONE


def parse_moment(text: str) -> At | None:
    """Return the moment that `--at` names; None for the end of the log.

    Raises:
        UsageError: Neither a revision nor a time.
    """
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return At(rev=int(text))
    try:
        return At(ts_ns=parse_time(text))
    except ValueError as exc:
        raise UsageError(
            f"{text!r} is neither a revision nor a time", "such as 17 or 2026-01-31T12:00:00Z"
        ) from exc
