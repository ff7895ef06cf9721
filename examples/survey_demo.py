"""Shows a run while it goes on, and what it found when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import millstream

REPORT = Path("survey-report.html")


def main(task: Any, show: Callable[[Any], str], arguments: list[str]) -> int:
    """Run the survey with a live view; print its result and the run's figures."""
    console = Console(stderr=True, highlight=False)
    millstream.init(root_dir=Path(__file__).parent)
    began = time.monotonic()
    run = millstream.run(task, *arguments[:1])
    console.print(f"run {run.id}")
    follow(run, console)
    result = run.result()
    span_s = time.monotonic() - began
    REPORT.write_text(result.html)
    print(show(result))
    print()
    counts = run.details().view["actions"]
    print(f"{counts['total']} actions in {span_s:.1f} s, start of the cluster included")
    Console(highlight=False).print(latencies(run))
    print(f"report: {REPORT.resolve()}")
    print("there is no console yet: `millstream get action RUN` and the report show the run")
    return 0


def follow(run: Any, console: Console) -> None:
    """Show the run's counts until it is over: one line, never one for each action."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        line = progress.add_task("survey", total=None, state="")
        shown_s = 0.0
        for view in run.views():
            counts = view["actions"]
            if time.monotonic() - shown_s < 0.1 and view["phase"] == "RUNNING":
                continue
            shown_s = time.monotonic()
            ended = counts["succeeded"] + counts["failed"] + counts["aborted"]
            state = f"{counts['running']} running, {counts['failed']} failed"
            progress.update(line, completed=ended, total=counts["total"], state=state)


def latencies(run: Any) -> Table:
    """Return how long actions spent in each phase, from the times in the log."""
    table = Table("phase", "attempts", "p50 ms", "p90 ms", "p99 ms", box=None)
    for row in run.latencies():
        figures = [f"{value:.2f}" for value in (row.p50, row.p90, row.p99)]
        table.add_row(row.phase, str(row.attempts), *figures)
    return table
