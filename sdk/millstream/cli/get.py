"""`millstream get ...`: what is there, read from the log."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from cyclopts import Parameter

from millstream._client import sender_name
from millstream._plan_inputs import inputs_of
from millstream._reader import follow_run
from millstream._remote_index import RunFilter, RunIndex, labels_asked
from millstream._remote_records import TimeFilter, phases_asked, time_of
from millstream._views import (
    Json,
    View,
    action_view,
    event_views,
    parse_time,
    run_view,
    show_time,
    value_view,
    waits_for_somebody,
)
from millstream.cli.outcome import DONE, UsageError
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_line, emit_one, line_of, tell
from millstream.cli.reach import (
    CONFIGURED,
    DomainName,
    PlaceOptions,
    ProjectName,
    Reached,
    on_cluster,
    ordinal_of,
)
from millstream_events.codec import decode_frame
from millstream_events.errors import BlobError, LogCorruptError
from millstream_events.ids import show_action
from millstream_events.plans import parts_of, plan_call
from millstream_events.ports import LogEntry, OutputBatch
from millstream_events.state import ActionState, RunState
from millstream_events.values import Blob, Inline, Value

_RUN_COLUMNS: Final = (
    "name",
    "task",
    "phase",
    "created_at",
    "duration_ms",
    "actions.total",
    "actions.running",
    "actions.failed",
    "error.message",
)
_ACTION_COLUMNS: Final = (
    "name",
    "parent",
    "task",
    "kind",
    "items.ended",
    "phase",
    "cache",
    "started_at",
    "ended_at",
    "error.message",
)
#: Values up to this size are fetched to be shown; of larger ones only the size is told.
_BLOB_SHOWN_BYTES_MAX: Final = 256 * 1024
_EVENT_COLUMNS: Final = ("seq", "rev", "ts", "type", "action", "attempt")

#: Between two looks for more output while following.
_LOGS_LOOK_S: Final = 0.2

Limit = Annotated[int, Parameter(name="--limit")]
Texts = Annotated[tuple[str, ...], Parameter(negative="")]
Flag = Annotated[bool, Parameter(negative="")]


@dataclass(frozen=True)
class RunChoice:
    """Which runs to list; everything that is given must hold."""

    in_phase: Texts = ()
    """Only in this phase; repeatable."""
    task_name: str = ""
    """Only of this root task, as ENVIRONMENT.FUNCTION."""
    task_version: str = ""
    """Only of this version of the root task."""
    with_label: Texts = ()
    """KEY=VALUE that the run is labelled with; repeatable."""
    with_label_key: Texts = ()
    """KEY that the run has a label of; repeatable."""
    created_after: str = ""
    """Only at or after a time such as 2026-01-31T12:00:00Z."""
    created_before: str = ""
    """Only before a time."""
    updated_after: str = ""
    """Only those that went on at or after a time."""
    updated_before: str = ""
    """Only those that went on last before a time."""
    only_mine: Annotated[bool, Parameter(negative="")] = False
    """Only runs that were started under this user's name."""
    project: ProjectName = ""
    """Only of this project."""
    domain: DomainName = ""
    """Only of this domain."""
    paused_only: Annotated[bool, Parameter(negative="")] = False
    """Only runs that are paused or wait for the answer to a condition."""

    def as_filter(self) -> RunFilter:
        """Return the filter.

        Raises:
            UsageError: A phase, a label or a time that cannot be read.
        """
        try:
            return RunFilter(
                phases=frozenset(phases_asked(self.in_phase)),
                task_name=self.task_name or None,
                created_by=sender_name() if self.only_mine else None,
                project=self.project or None,
                domain=self.domain or None,
                task_version=self.task_version or None,
                updated_at=TimeFilter(_moment(self.updated_after), _moment(self.updated_before)),
                created_at=TimeFilter(_moment(self.created_after), _moment(self.created_before)),
                labels=labels_asked(self.with_label),
                label_keys=self.with_label_key,
            )
        except ValueError as exc:
            raise UsageError(str(exc)) from exc


#: No choice given.
ANY_RUN: Final = RunChoice()


def _moment(text: str) -> datetime | None:
    return time_of(parse_time(text)) if text else None


def get_run(
    name: str = "",
    /,
    *,
    limit: Limit = 0,
    choice: Annotated[RunChoice, Parameter(name="*")] = ANY_RUN,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Show runs, newest first, or one run.

    Args:
        name: Id or name of one run.
        limit: Most runs to list; 0: all.
        choice: Which runs.
        common: Options of every command.
    """
    wanted = choice.as_filter()

    async def body(place: Reached) -> list[View] | View:
        if name:
            return run_view((await place.history(name)).state)
        index = RunIndex(place.log)
        most = None if choice.paused_only else limit or None
        runs = await index.runs(wanted, sort_by=("created_at", "desc"), limit=most)
        if choice.paused_only:
            runs = [run for run in runs if waits_for_somebody(run)][: limit or None]
        return [run_view(run) for run in runs]

    found = on_cluster(body)
    if isinstance(found, dict):
        emit_one(found, common.output)
    else:
        emit(found, common.output, columns=_RUN_COLUMNS)
    return DONE


def get_action(
    run: str,
    action: str = "",
    /,
    *,
    in_phase: Texts = (),
    where: PlaceOptions = CONFIGURED,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Show the actions of a run, or one of them.

    Args:
        run: Id or name.
        action: Such as `a3`; all of them if it is not given.
        in_phase: Only in this phase; repeatable.
        where: Project and domain of the run.
        common: Options of every command.
    """
    try:
        phases = phases_asked(in_phase)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc

    async def body(place: Reached) -> list[View] | View:
        state = (await place.history(run)).state
        if action:
            return action_view(state, ordinal_of(action, state))
        return [
            action_view(state, ordinal)
            for ordinal, each in enumerate(state.actions)
            if not phases or each.phase in phases
        ]

    found = on_cluster(body, where=where)
    if isinstance(found, dict):
        emit_one(found, common.output)
    else:
        emit(found, common.output, columns=_ACTION_COLUMNS)
    return DONE


def get_event(
    run: str,
    /,
    *,
    follow: Annotated[bool, Parameter(negative="")] = False,
    where: PlaceOptions = CONFIGURED,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Show the events of a run as they were logged.

    Args:
        run: Id or name.
        follow: Go on with what comes, until the run is over; one object a line.
        where: Project and domain of the run.
        common: Options of every command.
    """

    async def listed(place: Reached) -> list[View]:
        return _events((await place.history(run)).entries)

    async def followed(place: Reached) -> None:
        history = await place.history(run)
        if history.state.finished or not place.live:
            for view in _events(history.entries):
                emit_line(view)
            return
        async for step in follow_run(place.log, history.state.id):
            for view in _events([step.entry]):
                emit_line(view)

    if follow:
        on_cluster(followed, where=where)
    else:
        emit(on_cluster(listed, where=where), common.output, columns=_EVENT_COLUMNS, name="rev")
    return DONE


def get_io(
    run: str,
    action: str = "a0",
    /,
    *,
    inputs_only: Annotated[bool, Parameter(name=["--inputs-only", "-i"], negative="")] = False,
    outputs_only: Flag = False,
    where: PlaceOptions = CONFIGURED,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Show the inputs and outputs of an action.

    Args:
        run: Id or name.
        action: Such as `a3`; the root of the run if it is not given.
        inputs_only: Leave the outputs out.
        outputs_only: Leave the inputs out.
        where: Project and domain of the run.
        common: Options of every command.
    """
    if inputs_only and outputs_only:
        raise UsageError("--inputs-only and --outputs-only leave nothing")

    async def body(place: Reached) -> View:
        state = (await place.history(run)).state
        ordinal = ordinal_of(action, state)
        found: ActionState = state.actions[ordinal]
        view: View = {
            "run": state.id,
            "action": show_action(ordinal),
            "task": found.task.name,
            "phase": str(found.phase),
        }
        if not outputs_only:
            view["inputs"] = await _shown_inputs(place, state, found)
        if not inputs_only:
            view["outputs"] = await _shown(place, found.output)
        return view

    emit_one(on_cluster(body, where=where), common.output, name="action")
    return DONE


async def _shown_inputs(place: Reached, run: RunState, action: ActionState) -> Json:
    """Return an action's inputs; those of a graph or a node are put together first."""
    if parts_of(action.inputs) is None and plan_call(action.inputs) is None:
        return await _shown(place, action.inputs)

    async def fetch(value: Value) -> bytes:
        if isinstance(value, Inline):
            return value.content
        return await place.connection.blobs.get(value.digest)

    try:
        return value_view(await inputs_of(run, action, fetch, converts=False))
    except BlobError:
        return value_view(action.inputs)


async def _shown(place: Reached, value: Value | None) -> Json:
    """Return a value with its content, also where that lies in the blob store."""
    view = value_view(value)
    if not isinstance(value, Blob) or value.size_bytes > _BLOB_SHOWN_BYTES_MAX:
        return view
    try:
        content = await place.connection.blobs.get(value.digest)
    except BlobError:  # It is gone, or damaged; what is known of it can still be told.
        return view
    opened = value_view(Inline(value.codec, content))
    return {**opened, "digest": value.digest.hex()} if isinstance(opened, dict) else view


def get_logs(
    run: str,
    action: str = "",
    /,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    lines: Annotated[int, Parameter(name=["--lines", "-l"])] = 0,
    attempt: Annotated[int, Parameter(name=["--attempt", "-a"])] = 0,
    show_ts: Flag = False,
    where: PlaceOptions = CONFIGURED,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Show what the tasks of a run printed.

    Args:
        run: Id or name.
        action: Such as `a3`; all of them if it is not given.
        follow: Go on with what comes, until the run is over.
        lines: Only the last so many lines; 0: all.
        attempt: Only of this attempt, 1-based; 0: of all.
        show_ts: Begin each line with its time.
        where: Project and domain of the run.
        common: Options of every command.
    """
    if follow and lines:
        raise UsageError("--lines shows the end of what there is; --follow waits for more")

    async def body(place: Reached) -> None:
        history = await place.history(run)
        only = ordinal_of(action, history.state) if action else None
        wait = follow and place.live and not history.state.finished
        source = _batches(place, history.state.id, only, wait=wait)
        last: deque[str] = deque(maxlen=lines or None)
        async with contextlib.aclosing(source):
            async for batch in source:
                texts = _texts(batch, common, attempt=attempt, show_ts=show_ts)
                if lines:
                    last.extend(texts)
                else:
                    _print_all(texts)
        _print_all(last)

    on_cluster(body, where=where)
    return DONE


async def _batches(
    place: Reached, run: str, action: int | None, *, wait: bool
) -> AsyncGenerator[OutputBatch, None]:
    outputs = place.connection.outputs
    seq = 0
    over = asyncio.create_task(_over(place, run)) if wait else None
    try:
        while True:
            last_look = over is None or over.done()
            page = await outputs.read(run, action=action, after_seq=seq)
            for number, batch in page:
                seq = number
                yield batch
            if not page:
                if last_look:
                    return
                await asyncio.sleep(_LOGS_LOOK_S)
    finally:
        if over is not None:
            over.cancel()


async def _over(place: Reached, run: str) -> None:
    """Return when the run is over and what was printed last has had time to arrive."""
    async for _ in follow_run(place.log, run):
        pass
    await asyncio.sleep(2 * _LOGS_LOOK_S)


def _texts(batch: OutputBatch, common: OutputOptions, *, attempt: int, show_ts: bool) -> list[str]:
    """Return the lines of a batch as they are printed."""
    if batch.dropped:
        tell(f"{batch.dropped} lines of {show_action(batch.action)} were dropped")
    found: list[str] = []
    for line in batch.lines:
        if attempt not in (0, line.attempt):
            continue
        if common.output in {"json", "jsonl", "yaml"}:
            view: dict[str, Json] = {
                "ts": show_time(line.ts_ns),
                "action": show_action(batch.action),
                "attempt": line.attempt,
                "stream": "stdout" if line.stream == 1 else "stderr",
                "worker": line.worker,
                "text": line.text,
                "shared": line.shared,
                "native": line.native,
            }
            found.append(line_of(view))
        else:
            stamp = f"{show_time(line.ts_ns)} " if show_ts else ""
            found.append(f"{stamp}{show_action(batch.action)} | {line.text}")
    return found


def _print_all(texts: Iterable[str]) -> None:
    for text in texts:
        print(text, flush=True)


def _events(entries: list[LogEntry]) -> list[View]:
    views: list[View] = []
    for entry in entries:
        try:
            frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
        except LogCorruptError as exc:
            views.append({"seq": entry.seq, "type": "Corrupt", "detail": str(exc)})
        else:
            views += event_views(entry.seq, frame)
    return views
