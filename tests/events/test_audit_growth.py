"""What the auditor does for one event must not grow with the length of a tick."""

import sys
from types import FrameType
from typing import Any

from log_builder import RUN, LogBuilder

from millstream_events import model as m
from millstream_events.audit import audit
from millstream_events.ports import LogEntry
from millstream_events.values import TaskRef


def long_abort(children: int) -> list[LogEntry]:
    """Return the log of a run that is aborted with so many children, each end in a frame."""
    log = LogBuilder().runs([m.RunCreated(0, run=RUN, task=TaskRef("e.f"))])
    log.runs([m.AttemptDispatched(0, 1, pool="p", agent="a", token=b"t")])
    for number in range(1, children + 1):
        digest = number.to_bytes(16)
        log.runs([m.ActionRequested(number, id=digest[-10:], kind="task", inputs_hash=digest)])
    log.frame(RUN, [m.RunAbortRequested(0), m.ActionAbortRequested(0, 1, why="run-aborted")])
    for number in range(1, children + 1):
        told = m.ActionAbortRequested(number, 1, why="parent-aborted")
        log.frame(RUN, [told, m.ActionFinished(number, 1, phase="ABORTED")], same_tick=True)
    return log.entries


def lines_of(entries: list[LogEntry]) -> int:
    """Return how many lines of code the auditor goes through."""
    lines = 0

    def count(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        report = audit(entries, quiescent=False)
    finally:
        sys.settrace(before)
    assert not report.violations
    return lines


def test_an_abort_of_twice_as_many_is_twice_the_work() -> None:
    few, many = lines_of(long_abort(200)), lines_of(long_abort(400))
    assert many < 2.2 * few, (few, many)
