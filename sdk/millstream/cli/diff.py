"""`millstream diff A B`: where two runs differ."""

from typing import Final

from millstream._run_diff import diff_runs
from millstream._views import View
from millstream.cli.outcome import DIFFERENCES, DONE
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one, tell
from millstream.cli.reach import Reached, on_cluster

_COLUMNS: Final = ("what", "action_a", "action_b", "a", "b")


def diff(a: str, b: str, /, *, common: OutputOptions = DEFAULTS) -> int:
    """Compare two runs call by call; exit 6 if they differ. Times do not count.

    Args:
        a: Id or name of one run.
        b: Id or name of the other.
        common: Options of every command.
    """

    async def body(place: Reached) -> View:
        return diff_runs((await place.history(a)).state, (await place.history(b)).state)

    found = on_cluster(body)
    if common.output in {"table", "wide"}:
        listed = found["differences"]
        rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
        if rows:
            emit(rows, common.output, columns=_COLUMNS, name="what")
        else:
            tell("no differences")
    else:
        emit_one(found, common.output, name="a")
    return DONE if found["same"] else DIFFERENCES
