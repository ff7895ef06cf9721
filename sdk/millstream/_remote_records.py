"""Plain records of the remote API: identifiers, times, errors and aborts of actions."""

from collections import UserDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

from millstream._html import mimebundle, values_html
from millstream._remote_shown import Shown
from millstream._views import Json
from millstream.models import ActionPhase
from millstream_events.phases import Phase
from millstream_events.state import ActionState, RunState
from millstream_events.values import SYSTEM_KINDS, ErrorRecord

#: Field and direction.
SortBy: TypeAlias = tuple[str, Literal["asc", "desc"]]

#: Numbers of the phases on Flyte's wire.
RAW_PHASES: Final = {
    ActionPhase.QUEUED: 1,
    ActionPhase.WAITING_FOR_RESOURCES: 2,
    ActionPhase.INITIALIZING: 3,
    ActionPhase.RUNNING: 4,
    ActionPhase.SUCCEEDED: 5,
    ActionPhase.FAILED: 6,
    ActionPhase.ABORTED: 7,
    ActionPhase.TIMED_OUT: 8,
    ActionPhase.PAUSED: 9,
    ActionPhase.RECOVERED: 10,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class RunIdentifier:
    """Which run."""

    name: str
    project: str = ""
    domain: str = ""
    org: str = ""


@dataclass(frozen=True)
class ActionIdentifier:
    """Which action of which run."""

    run: RunIdentifier
    name: str


@dataclass(frozen=True)
class ActionError:
    """Why an action failed."""

    message: str
    #: USER or SYSTEM.
    kind: str
    #: The code that `RuntimeUserError.code` would have.
    code: str
    traceback: str = ""


@dataclass(frozen=True)
class ActionAbort:
    """Why an action was aborted, and by whom."""

    reason: str
    aborted_by: str = ""


@dataclass(frozen=True)
class Relation:
    """The run that this one was made from."""

    related_to: RunIdentifier
    #: rerun, recover or fork.
    relation_type: str


@dataclass
class PhaseTransition:
    """One phase of one attempt."""

    phase: ActionPhase
    start_time: datetime
    #: None while the attempt is in this phase.
    end_time: datetime | None

    @property
    def duration(self) -> timedelta:
        """Time spent in the phase, up to now if it goes on."""
        if self.end_time is not None:
            return abs(self.end_time - self.start_time)
        return datetime.now(UTC) - self.start_time


@dataclass
class TimeFilter:
    """A span of time.

    Attributes:
        after: Nothing before this moment.
        before: Nothing at or past this moment.
    """

    after: datetime | None = None
    before: datetime | None = None

    def covers(self, unix_ns: int) -> bool:
        """Say whether a moment lies in the span; 0, which is no moment, does not."""
        if not unix_ns:
            return False
        when = time_of(unix_ns)
        return (self.after is None or when >= _aware(self.after)) and (
            self.before is None or when < _aware(self.before)
        )


class ActionInputs(UserDict[str, Any], Shown):
    """Inputs of an action by name."""

    def to_dict(self) -> dict[str, Any]:
        """Return the inputs as a plain dict."""
        return dict(self.data)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return mimebundle(repr(self), lambda: values_html(self.data, "input"))


def time_of(unix_ns: int) -> datetime:
    """Return a moment, in UTC."""
    return _EPOCH + timedelta(microseconds=unix_ns // 1000)


def _aware(when: datetime) -> datetime:
    # Without a zone a time is local, as in `datetime.astimezone`.
    return when.astimezone(UTC)


def phase_of(phase: str) -> ActionPhase:
    """Return Flyte's phase; SKIPPED, which Flyte has not, shows as ABORTED."""
    if phase == Phase.SKIPPED:
        return ActionPhase.ABORTED
    return ActionPhase[phase]


def phases_asked(in_phase: "Iterable[ActionPhase | str] | ActionPhase | str | None") -> set[str]:
    """Return the phases to list, in capitals; an empty set means all.

    Raises:
        ValueError: There is no such phase.
    """
    given = (in_phase,) if isinstance(in_phase, str) else in_phase or ()
    asked = {(p.value if isinstance(p, ActionPhase) else str(p)).upper() for p in given}
    unknown = sorted(asked - {phase.name for phase in ActionPhase})
    if unknown:
        known = ", ".join(phase.value for phase in ActionPhase)
        raise ValueError(f"there is no phase {unknown[0]!r}; phases: {known}")
    return asked


def sort_key(sort_by: SortBy | None, known: Sequence[str]) -> tuple[str, bool]:
    """Return the field to sort by, and whether the largest comes first.

    Raises:
        ValueError: There is no such field or direction.
    """
    name, direction = sort_by or ("created_at", "asc")
    if name not in known:
        raise ValueError(f"cannot sort by {name!r}; fields: {', '.join(known)}")
    if direction not in ("asc", "desc"):
        raise ValueError(f"direction must be 'asc' or 'desc', not {direction!r}")
    return name, direction == "desc"


def shown_error(error: ErrorRecord | None) -> ActionError | None:
    """Return a recorded error as people see it."""
    if error is None:
        return None
    kind = "SYSTEM" if error.kind in SYSTEM_KINDS else "USER"
    return ActionError(error.message, kind, error.type, error.traceback)


def shown_abort(action: ActionState) -> ActionAbort | None:
    """Return why an action was aborted, if it was."""
    if not action.abort_why:
        return None
    return ActionAbort(action.abort_reason or action.abort_why, action.abort_who)


def run_identifier(run: RunState) -> RunIdentifier:
    """Return the identifier of a run."""
    return RunIdentifier(run.name or run.id, run.project, run.domain)


def relation_of(run: RunState) -> Relation | None:
    """Return what a run was made from, if it was made from another."""
    if run.origin is None:
        return None
    source = RunIdentifier(run.origin.run, run.project, run.domain)
    return Relation(source, run.origin.mode)


def iso(unix_ns: int) -> Json:
    """Return a moment as text, None for 0."""
    return time_of(unix_ns).isoformat() if unix_ns else None
