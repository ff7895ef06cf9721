"""One attempt that the agent holds, from the order that brought it to its report."""

from typing import Final

import msgspec

from millstream_events.early import RunBegun
from millstream_events.reports import (
    Annotate,
    CancelChild,
    Diverged,
    Failed,
    Held,
    Lost,
    OpenCondition,
    Parked,
    RecordTrace,
    Report,
    Returned,
    SetTimer,
    StartAction,
    Started,
    Succeeded,
    Work,
)
from millstream_executor.crew import WorkClass
from millstream_executor.link import ToWorker


class Stage:
    """Where a held attempt stands. Only `RUNNING` occupies a slot.

    Plain numbers, which index counts: an enum's members cost five times as much to reach, and
    they are reached some thirty times for each attempt.
    """

    #: Its bundle is on the way, or an older attempt of its action has not ended yet.
    FETCHING: Final = 0
    QUEUED: Final = 1
    RUNNING: Final = 2
    #: Waits for at least one child or timer; its slot is given back.
    PARKED: Final = 3
    #: Nothing is pending any more; it goes on as soon as a slot is free.
    RESUMING: Final = 4
    OVER: Final = 5


STAGES: Final = 6


class HeldAttempt(msgspec.Struct, kw_only=True):
    """An attempt and what the agent remembers of it. All times are monotonic ns but one."""

    work: Work
    token: bytes
    queued_ns: int
    #: When it was last given a slot.
    slot_ns: int = 0
    stage: int = Stage.FETCHING
    #: Token of an older attempt of its action, which must be over first; empty: none.
    after: bytes = b""
    #: Key of its worker; empty until it has had a slot.
    worker: str = ""
    #: Shares a loop with others: only one of them runs Python code at any moment.
    light: bool = False
    #: In a process of its own, which ends with it.
    alone: bool = False
    #: Goes to a kept worker of this class; None: to any that will do.
    kept: WorkClass | None = None
    #: Waits for room in such a worker, aside from the queue.
    aside: bool = False
    #: Calls forwarded and not released: id -> when.
    pending: dict[bytes, int] = {}
    #: When its children were last asked for (or the oldest call was made).
    asked_ns: int = 0
    #: Kept back until it has a slot again.
    deliveries: list[ToWorker] = []
    #: When the agent heard that user code runs; 0: not yet.
    began_ns: int = 0
    #: The same in the worker's words, Unix ns.
    started_ns: int = 0
    parked_ns: int = 0
    has_parked: bool = False
    #: Its end is decided elsewhere: whatever it still says is not reported.
    muted: bool = False
    #: `reports.Cancel.why`, or `forgotten`; empty: nobody cancelled it.
    stop_why: str = ""
    grace_ms: int = 0
    #: When its grace is over; set with `stop_why`.
    kill_ns: int = 0
    #: Number of the report that tells of it, when it began here; 0: the leader sent it.
    call_number: int = 0
    #: Next journal entry that was asked for and has not come; -1: none.
    journal_start: int = -1


def claim_of(item: Report) -> Held | None:
    """Return the attempt that a numbered report is about; its attempt number is left out."""
    match item:
        case (
            Started()
            | Succeeded()
            | Failed()
            | Lost()
            | Returned()
            | Parked()
            | Annotate()
            | Diverged()
        ):
            return Held(item.run, item.action, 0, item.token)
        case RunBegun():
            return Held(item.run, 0, 0, item.token)
        case StartAction() | SetTimer() | RecordTrace() | OpenCondition() | CancelChild():
            return Held(item.run, item.parent, 0, item.token)
        case _:
            return None
