"""`millstream check FILE`: what is wrong with a file, before anything of it runs."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from millstream._check_file import (
    NOT_IMPORTED,
    UNKNOWN_POOL,
    UNKNOWN_QUEUE,
    CheckedTask,
    Finding,
    Report,
    with_findings,
)
from millstream._cluster_probe import describe
from millstream._reader import read_shard
from millstream._views import Json, View
from millstream.cli.loading import module_at
from millstream.cli.outcome import DIFFERENCES, DONE, nearest
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one, tell
from millstream.cli.reach import reached
from millstream_events.errors import MillstreamError
from millstream_events.queues import queues_of

#: Longest that a file may take to load.
_LOAD_S_MAX: Final = 60.0
#: Longest wait for what the cluster knows; without it the rest is shown.
_CLUSTER_S_MAX: Final = 5.0
#: Set while code is loaded that must not start runs; see `millstream._launch`.
_LOADING_VARIABLE: Final = "MILLSTREAM_LOADING"
_COLUMNS: Final = ("task", "where", "inputs", "outputs", "queue", "pool")


def check(
    file: Path,
    /,
    *,
    strict: Annotated[bool, Parameter(negative="")] = False,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Load a file apart and list its tasks and what is wrong; exit 6 if something will fail.

    Types that cannot be carried, a missing `__main__` guard, settings without effect here (with
    their codes), images and triggers that cannot be, and, where a cluster runs, queues and pools
    that it does not know.

    Args:
        file: Python file.
        strict: Exit 6 for warnings too.
        common: Options of every command.
    """
    module_at(file)
    report = load_apart(file)
    report = with_findings(report, asyncio.run(_of_cluster(report.tasks)))
    view = _view(report)
    if common.output in {"table", "wide"}:
        rows = [_row(task) for task in report.tasks]
        emit(rows, common.output, columns=_COLUMNS)
        for finding in report.findings:
            _show(finding)
        counts = _counts(report)
        tell(f"{file}: {counts['error']} errors, {counts['warning']} warnings")
    else:
        emit_one(view, common.output, name="file")
    return DONE if report.is_sound and not (strict and report.findings) else DIFFERENCES


def load_apart(file: Path) -> Report:
    """Return what a process of its own says of the file that it loads."""
    try:
        ended = subprocess.run(
            # -P: the working directory is no place of modules, as for `millstream run`.
            [sys.executable, "-P", "-m", "millstream.cli.check_load", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, _LOADING_VARIABLE: file.name},
            timeout=_LOAD_S_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        text = f"{file.name} does not end to load within {_LOAD_S_MAX:g} s"
        hint = "what takes long or waits belongs into tasks"
        return Report(str(file), findings=(Finding("error", NOT_IMPORTED, "", text, hint),))
    if ended.stdout:
        return msgspec.json.decode(ended.stdout, type=Report)
    why = _end_of(ended.returncode)
    text = f"loading {file.name} ended its process: {why}"
    return Report(str(file), findings=(Finding("error", NOT_IMPORTED, "", text),))


def _end_of(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


async def _of_cluster(tasks: tuple[CheckedTask, ...]) -> list[Finding]:
    """Return which queues and pools of the tasks the cluster does not know."""
    if not any(task.queue or task.pool for task in tasks):
        return []
    try:
        async with asyncio.timeout(_CLUSTER_S_MAX), reached(live=True) as place:
            queues = set(queues_of((await read_shard(place.log)).settings))
            shard = await describe(place.endpoint)
    except (MillstreamError, TimeoutError) as exc:
        tell(f"queues and pools were not looked at: {exc or 'no answer'}")
        return []
    pools = {agent.pool for agent in (() if shard is None else shard.agents)}
    found: list[Finding] = []
    for task in tasks:
        if task.queue and task.queue not in queues:
            text = f"{task.name}: no queue {task.queue!r}, so no limits hold."
            text += nearest(task.queue, queues)
            hint = f"millstream create queue {task.queue}"
            found.append(Finding("warning", UNKNOWN_QUEUE, task.where, text, hint))
        if task.pool and task.pool not in pools:
            text = f"{task.name}: no agent of pool {task.pool!r} works: its calls would wait."
            text += nearest(task.pool, pools)
            hint = f"millstream start pool --name {task.pool}"
            found.append(Finding("warning", UNKNOWN_POOL, task.where, text, hint))
    return found


def _counts(report: Report) -> dict[str, int]:
    levels = [finding.level for finding in report.findings]
    return {level: levels.count(level) for level in ("error", "warning")}


def _view(report: Report) -> View:
    shown: Json = msgspec.to_builtins(report)
    assert isinstance(shown, dict)
    return {**shown, "ok": report.is_sound, "counts": {**_counts(report)}}


def _row(task: CheckedTask) -> View:
    return {
        "task": task.name,
        "where": task.where,
        "inputs": ", ".join(f"{each.name}: {each.type}" for each in task.inputs),
        "outputs": ", ".join(each.type for each in task.outputs),
        "queue": task.queue,
        "pool": task.pool,
    }


def _show(finding: Finding) -> None:
    where = f"{finding.where}: " if finding.where else ""
    print(f"{where}{finding.level}[{finding.code}]: {finding.text}")
    if finding.hint:
        indented = finding.hint.replace("\n", "\n  ")
        print(f"  {indented}")
