"""What is recorded of the ways in which user code, and what is around it, fails."""

import traceback
from typing import Final, cast

import msgspec

from millstream._failures import record_of
from millstream_events.errors import MillstreamError
from millstream_events.values import ErrorRecord

_TRACEBACK_BYTES_MAX: Final = 16 * 1024


def record(exc: BaseException) -> ErrorRecord:
    """Return the record of a user's exception, whatever its own methods do."""
    try:
        return record_of(exc)
    except Exception:  # noqa: BLE001 - `__str__` or `__reduce__` of the user's class failed
        frames = "".join(traceback.format_tb(exc.__traceback__))
        return ErrorRecord("user", type(exc).__name__, "", frames[-_TRACEBACK_BYTES_MAX:])


def cancelled(exc: BaseException, *, asked: bool) -> ErrorRecord:
    """Return the record of code that was cancelled, `asked` for or by its own doing."""
    if not asked:  # So its own budget pays.
        return msgspec.structs.replace(record(exc), kind="user")
    return ErrorRecord("cancelled", "CancelledError", "the attempt was cancelled", retryable=False)


def unreadable(exc: Exception, what: str = "inputs cannot be read") -> ErrorRecord:
    """Return the record of inputs that other code has written than reads them.

    The next attempt would read the same bytes.
    """
    error = record(exc)
    message = f"{what}: {error.message}"
    return msgspec.structs.replace(error, message=message, retryable=False)


def unstorable(exc: Exception, value: object) -> ErrorRecord:
    """Return the record of a result that has no bytes."""
    message = f"a result of type {type(value).__qualname__} cannot be stored: {exc}"
    return msgspec.structs.replace(
        record(exc), kind="user", type="ResultNotSerializable", message=message, retryable=False
    )


def unfetched(exc: MillstreamError) -> ErrorRecord:
    """Return the record of a value that could not be had or kept: not the task's doing."""
    return ErrorRecord(
        "system" if exc.retryable else "dependency",
        type(exc).__name__,
        str(exc),
        retryable=exc.retryable,
    )


def is_cancellation(exc: BaseException) -> bool:
    """Say whether `exc` is how cancelling ends code, async or blocked in a thread."""
    if isinstance(exc, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exc)
        return all(is_cancellation(inner) for inner in group.exceptions)
    return type(exc).__name__ == "CancelledError"
