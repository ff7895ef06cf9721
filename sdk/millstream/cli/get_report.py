"""`millstream get report`: the page that a task made of itself."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from millstream._kept import report_attempts, report_html
from millstream._views import View
from millstream.cli.outcome import DONE, NotFoundError
from millstream.cli.output import DEFAULTS, OutputOptions, emit_one, tell
from millstream.cli.reach import CONFIGURED, PlaceOptions, Reached, on_cluster, ordinal_of
from millstream_events.ids import show_action


def get_report(
    run: str,
    action: str = "a0",
    /,
    *,
    attempt: int | None = None,
    to: Annotated[Path | None, Parameter(name="--to")] = None,
    where: PlaceOptions = CONFIGURED,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Show the report of an action, as HTML.

    Args:
        run: Id or name.
        action: Such as `a3`; the root of the run if it is not given.
        attempt: 1-based; the last one that has a report if it is not given.
        to: File to write it to, instead of the terminal.
        where: Project and domain of the run.
        common: Options of every command.
    """

    async def body(place: Reached) -> tuple[str, int, list[int], str]:
        state = (await place.history(run)).state
        ordinal = ordinal_of(action, state)
        attempts = report_attempts(state, ordinal)
        try:
            page = await report_html(place.connection.blobs, state, ordinal, attempt)
        except RuntimeError as exc:
            raise NotFoundError(str(exc), "@env.task(report=True)") from exc
        return state.id, ordinal, attempts, page

    run_id, ordinal, attempts, page = on_cluster(body, where=where)
    if to is not None:
        to.write_text(page)
        tell(f"written to {to}")
    elif common.output in {"json", "jsonl", "yaml"}:
        view: View = {
            "run": run_id,
            "action": show_action(ordinal),
            "attempt": attempts[-1] if attempt is None else attempt,
            "attempts": [*attempts],
            "html": page,
        }
        emit_one(view, common.output)
    else:
        print(page)
    return DONE
