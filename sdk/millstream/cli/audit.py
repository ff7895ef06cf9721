"""`millstream audit`: whether the log keeps what it promises."""

from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from millstream._reader import read_entries
from millstream._views import Json, View
from millstream.cli.outcome import DIFFERENCES, DONE, UsageError
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one, tell
from millstream.cli.reach import Reached, on_cluster
from millstream_events.audit import LogAudit
from millstream_events.audit_records import AuditReport

_COLUMNS: Final = ("invariant", "run", "rev", "detail")


def audit(
    run: str = "",
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    quiescent: Annotated[bool, Parameter(negative="")] = False,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Check the invariants of one run, or of the whole log; exit 6 when one is broken.

    Args:
        run: Id or name of a run.
        every: The whole log, with what only the whole of it can show. The default.
        quiescent: Nothing is under way: an action without an end counts too.
        common: Options of every command.
    """
    if run and every:
        raise UsageError("a run and --all were given", "one of them")

    async def body(place: Reached) -> AuditReport:
        key = await place.run_id(run) if run else None
        auditor = LogAudit()
        async for entry in read_entries(place.log, key=key):
            auditor.take(entry)
        return auditor.report(quiescent=quiescent)

    report = on_cluster(body)
    violations: list[View] = [dict(msgspec.structs.asdict(one)) for one in report.violations]
    rows: list[Json] = [*violations]
    if common.output in {"table", "wide"}:
        emit(violations, common.output, columns=_COLUMNS)
        tell(f"{report.runs} runs, {report.events} events, {len(violations)} violations")
    else:
        view = {**msgspec.structs.asdict(report), "violations": rows}
        emit_one(view, common.output, name="runs")
    return DIFFERENCES if violations else DONE
