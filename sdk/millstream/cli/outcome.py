"""How a command ends: exit codes, and errors as people and as scripts read them."""

import difflib
import sys
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from millstream_events.errors import MillstreamError

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
#: A wait timed out, or somebody said no.
DECLINED: Final = 3
NOT_FOUND: Final = 4
RUN_FAILED: Final = 5
DIFFERENCES: Final = 6
NOT_REACHED: Final = 7
INTERRUPTED: Final = 130

#: Number of each `MillstreamError.code`, for people to look up; never reused.
_NUMBERS: Final[Mapping[str, int]] = {
    "internal": 1000,
    "log": 1100,
    "log-unavailable": 1101,
    "stale-writer": 1102,
    "storage-full": 1103,
    "log-corrupt": 1104,
    "bus": 1200,
    "bus-unavailable": 1201,
    "bus-denied": 1202,
    "payload-too-large": 1203,
    "blob": 1300,
    "blob-missing": 1301,
    "blob-corrupt": 1302,
    "rejected": 1400,
    "config": 1500,
    "cluster": 1600,
    "not-reached": 1601,
    "store-in-use": 1602,
    "cluster-start": 1603,
    "app-failed": 1700,
    "app-not-active": 1701,
    "usage": 2000,
    "not-found": 2100,
    "user-code": 2200,
}
_EXITS: Final[Mapping[str, int]] = {
    "log-unavailable": NOT_REACHED,
    "bus-unavailable": NOT_REACHED,
    "not-reached": NOT_REACHED,
    "bus-denied": NOT_FOUND,
    "config": USAGE,
    "usage": USAGE,
    "not-found": NOT_FOUND,
}
#: Refusals of a leader that mean that something is not there.
_MISSING: Final = frozenset({"no-such-run", "no-such-action", "no-such-queue"})
#: Refusals that mean that somebody decided otherwise.
_DECLINED: Final = frozenset({"already-ended", "queue-draining"})


class CommandError(MillstreamError):
    """A command cannot go on, for a reason that the person who typed it can mend."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.advice = hint

    def __str__(self) -> str:
        return self.message


class UsageError(CommandError):
    """The command line makes no sense."""

    code = "usage"


class NotFoundError(CommandError):
    """What the command line names is not there."""

    code = "not-found"


class UserCodeError(CommandError):
    """The user's file cannot be imported; the traceback shows the user's frames only."""

    code = "user-code"

    def __init__(self, message: str, hint: str = "", traceback: str = "") -> None:
        super().__init__(message, hint)
        self.args = (message, hint, traceback)
        self.traceback = traceback


class ErrorView(msgspec.Struct, frozen=True):
    """An error, as `-o json` prints it on stderr."""

    code: str
    message: str
    hint: str
    details: dict[str, str | bool | int]


def number_of(error: MillstreamError) -> str:
    """Return the error's number, such as `MS1601`."""
    return f"MS{_NUMBERS.get(error.code, _NUMBERS['internal'])}"


def exit_code_of(error: MillstreamError) -> int:
    """Return the exit code that the error means."""
    reason = getattr(error, "reason_code", "")
    if reason in _MISSING:
        return NOT_FOUND
    if reason in _DECLINED:
        return DECLINED
    return _EXITS.get(error.code, FAILED)


def view_of(error: MillstreamError) -> ErrorView:
    """Return the error as scripts read it."""
    details: dict[str, str | bool | int] = {"name": error.code, "retryable": error.retryable}
    reason = getattr(error, "reason_code", "")
    if reason:
        details["reason"] = reason
    trace = getattr(error, "traceback", "")
    if trace:
        details["traceback"] = trace
    hint = getattr(error, "advice", "") or error.hint
    return ErrorView(number_of(error), str(error), hint, details)


def print_error(error: MillstreamError, *, as_json: bool) -> None:
    """Print the error on stderr."""
    view = view_of(error)
    if as_json:
        sys.stderr.write(msgspec.json.encode(view).decode() + "\n")
        return
    trace = view.details.get("traceback", "")
    if trace:
        sys.stderr.write(f"{trace}\n")
    sys.stderr.write(f"error[{view.code}]: {view.message}\n")
    if view.hint:
        sys.stderr.write(f"hint: {view.hint}\n")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the known name most like `name`, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else ""
