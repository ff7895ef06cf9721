"""Exceptions to records and back: what a parent sees of how its child failed.

A parent gets the exception that its child raised: the original class with its attributes, which
is at the same time a `RuntimeUserError`, as Flyte has it. Both `except ValueError` and
`except RuntimeUserError` work, `.code` is the name of the class, `str(e)` its message, and the
remote traceback is its `__cause__`; what the child raised it from is its `__context__`.

Where one class cannot be both (a metaclass, or a base that clashes), it is the original class
alone. Where the original cannot be rebuilt (it does not pickle, or its class is not there), or
must not be raised again (`StopIteration`, `SystemExit`, `KeyboardInterrupt`: Python gives them a
meaning of its own), it is `RuntimeUserError` alone.
"""

import asyncio
import concurrent.futures
import functools
import pathlib
import sys
import traceback
import types
from collections.abc import Hashable
from typing import Final, cast

from millstream import _pickling, errors
from millstream_events.phases import Phase
from millstream_events.values import ErrorRecord, Inline

CODEC_EXCEPTION: Final = "exception"
TRACEBACK_BYTES_MAX: Final = 16 * 1024
PICKLED_BYTES_MAX: Final = 64 * 1024
MESSAGE_CHARS_MAX: Final = 8 * 1024

#: Codes of Flyte's that are not the name of their class.
_CLASS_OF_CODE: Final = {
    "DataValidationError": "RuntimeDataValidationError",
    "RestrictedTypeUsage": "RestrictedTypeError",
    "LogsNotYetAvailable": "LogsNotYetAvailableError",
    **{code: cls.__name__ for code, cls in errors.APPLE_SILICON_ERRORS_BY_CODE.items()},
}
#: What Flyte makes of a code that has one of these words in it.
_CLASS_OF_WORD: Final[tuple[tuple[str, type[errors.RuntimeUserError]], ...]] = (
    ("OOM", errors.OOMError),
    ("INTERRUPTED", errors.TaskInterruptedError),
    ("PRIMARYCONTAINERNOTFOUND", errors.PrimaryContainerNotFoundError),
    ("RETRIESEXHAUSTED", errors.RetriesExhaustedError),
    ("INVALIDIMAGENAME", errors.InvalidImageNameError),
    ("IMAGEPULLBACKOFF", errors.ImagePullBackOffError),
)
#: Attributes of our errors that ride as numbers, in `ErrorRecord.figures`.
_FIGURES_OF: Final[tuple[tuple[type[errors.BaseRuntimeError], tuple[str, ...]], ...]] = (
    (errors.OOMError, ("limit_bytes", "peak_bytes")),
    (errors.WorkerCrashedError, ("signal",)),
    (errors.NestingTooDeepError, ("limit",)),
)


class RemoteTraceback(Exception):
    """Where a child's exception was raised, as text; the `__cause__` of what its parent gets."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}" if self.args else ""


# ------------------------------------------------------------------ exception -> record


def record_of(exc: BaseException) -> ErrorRecord:
    """Return what is stored of an exception that ended an attempt or a trace."""
    return ErrorRecord(
        kind=_kind_of(exc),
        type=_code_of(exc),
        message=_text_of(exc),
        traceback=_traceback_of(exc),
        retryable=_may_be_retried(exc),
        pickled=_pickled(exc),
        figures=_figures_of(exc),
    )


def _may_be_retried(exc: BaseException) -> bool:
    if isinstance(exc, errors.AppleSiliconError):
        return exc.recoverable
    return not isinstance(
        exc, errors.NonRecoverableError | errors.NonDeterministicError | errors.ModuleLoadError
    )


def _kind_of(exc: BaseException) -> str:
    if isinstance(exc, asyncio.CancelledError | concurrent.futures.CancelledError):
        return "cancelled"
    if is_received(exc):
        # Its own worker did not crash, and its own memory did not run out: its child's did.
        return "user"
    if isinstance(exc, errors.OOMError):
        return "oom"
    # A `RuntimeSystemError` that code raises is the task's doing too: its `retries` pay.
    if isinstance(exc, errors.ModuleLoadError | errors.CodeBundleError | errors.BlobError):
        return "dependency"
    return "user"


def _code_of(exc: BaseException) -> str:
    if isinstance(exc, errors.BaseRuntimeError):
        return exc.code
    return type(exc).__name__


def _text_of(exc: BaseException) -> str:
    try:
        text = str(exc)
    # `__str__` is the user's.
    except Exception as broken:  # noqa: BLE001
        return f"<{type(exc).__name__}, whose text cannot be made: {type(broken).__name__}>"
    text = text.encode("utf-8", "replace").decode()
    if len(text) <= MESSAGE_CHARS_MAX:
        return text
    return f"{text[:MESSAGE_CHARS_MAX]}... ({len(text):,} characters)"


def _figures_of(exc: BaseException) -> tuple[tuple[str, int], ...]:
    for base, names in _FIGURES_OF:
        if isinstance(exc, base):
            return tuple((name, int(getattr(exc, name))) for name in names)
    return ()


def _traceback_of(exc: BaseException) -> str:
    """Return the traceback, without frames that are not the user's, cut from its start."""
    try:
        shown = traceback.TracebackException.from_exception(exc, compact=True)
        _keep_user_frames(shown, _foreign_folders())
        content = "".join(shown.format()).encode("utf-8", "replace")
    # Formatting asks for the text and the notes of the user's exceptions.
    except Exception:  # noqa: BLE001
        content = "".join(traceback.format_tb(exc.__traceback__)).encode("utf-8", "replace")
    if len(content) <= TRACEBACK_BYTES_MAX:
        return content.decode()
    # The end says most: the innermost frames and the message.
    cut = b"...\n"
    return (cut + content[len(cut) - TRACEBACK_BYTES_MAX :]).decode("utf-8", "ignore")


def _foreign_folders() -> tuple[str, ...]:
    files = [__file__, asyncio.__file__, concurrent.futures.__file__]
    host = sys.modules.get("millstream_executor")
    if host is not None and host.__file__ is not None:
        files.append(host.__file__)
    return tuple(str(pathlib.Path(file).parent) + "/" for file in files)


def _keep_user_frames(shown: traceback.TracebackException, foreign: tuple[str, ...]) -> None:
    kept = [
        frame
        for frame in shown.stack
        if not frame.filename.startswith((*foreign, "<frozen "))
        and frame.filename != functools.__file__
    ]
    shown.stack = traceback.StackSummary.from_list(kept)
    for inner in (shown.__cause__, shown.__context__, *(shown.exceptions or ())):
        if inner is not None:
            _keep_user_frames(inner, foreign)


def _pickled(exc: BaseException) -> Inline | None:
    """Return the exception itself, as much of it as can be sent; None: nothing can."""
    for strip in (False, True):
        try:
            _, content = _pickling.dump(_bare(exc) if strip else exc)
        # Pickling runs the user's code, and has no error class of its own.
        except Exception:  # noqa: BLE001, S112 - what cannot be sent is left out
            continue
        if len(content) <= PICKLED_BYTES_MAX:
            return Inline(CODEC_EXCEPTION, content)
    return None


def _bare(exc: BaseException) -> BaseException:
    """Return a copy of `exc` without causes, and without attributes that cannot be sent."""
    bare = _pickling.blank_exception(type(exc), _pickling.exception_args(exc))
    bare.__dict__.clear()
    for name, value in exc.__dict__.items():
        try:
            _, content = _pickling.dump(value)
        # The same as above: this attribute cannot be sent.
        except Exception:  # noqa: BLE001, S112
            continue
        if len(content) <= PICKLED_BYTES_MAX // 8:
            bare.__dict__[name] = value
    return bare


# ------------------------------------------------------------------ record -> exception


def exception_of(
    record: ErrorRecord, *, phase: str, action: str, task: str, retries: int = 0
) -> BaseException:
    """Return what to raise in a parent that awaits an action that did not succeed.

    Args:
        record: How the action ended.
        phase: The terminal phase; one of `Phase`.
        action: Name of the action, for the note on the exception.
        task: Name of the task, for the note.
        retries: That the task had for failures of its own.
    """
    exc = _unpickled(record) if phase == Phase.FAILED else None
    if exc is None or (record.kind == "oom" and not isinstance(exc, errors.OOMError)):
        exc = _of_ours(record, phase)
    # What may be tried again and is not has used up all that the task had.
    used_up = retries > 0 and record.retryable and record.kind == "user"
    received = as_received(exc, code=record.type, used_up=used_up)
    if record.traceback:
        # Printing shows the cause, and with it the whole text; the context stays reachable.
        received.__context__ = received.__cause__ or received.__context__
        received.__cause__ = RemoteTraceback(record.traceback)
    received.add_note(f"raised in task {task or '?'}, action {action or '?'}")
    return received


def _unpickled(record: ErrorRecord) -> BaseException | None:
    if not isinstance(record.pickled, Inline) or record.pickled.codec != CODEC_EXCEPTION:
        return None
    try:
        exc = _pickling.load(record.pickled.content)
    # Unpickling imports and runs what the exception names; the text of the record remains.
    except Exception:  # noqa: BLE001
        return None
    return exc if isinstance(exc, BaseException) else None


def _of_ours(record: ErrorRecord, phase: str) -> errors.BaseRuntimeError:
    """Return an error of `millstream.errors` for a record without an exception."""
    name = _CLASS_OF_CODE.get(record.type, record.type)
    found = getattr(errors, name, None) or getattr(errors, f"{name}Error", None)
    named = (
        found if isinstance(found, type) and issubclass(found, errors.BaseRuntimeError) else None
    )
    kind = record.kind
    if phase in (Phase.ABORTED, Phase.SKIPPED) or kind == "cancelled":
        return _made(errors.ActionAbortedError, record, code="ActionAbortedError")
    if phase == Phase.TIMED_OUT or kind == "timeout":
        is_known = named is not None and issubclass(named, errors.TaskTimeoutError)
        return _made(named if is_known and named is not None else errors.TaskTimeoutError, record)
    if kind == "oom":
        return _made(errors.OOMError, record, code="OOMError")
    if named is not None:
        return _made(named, record)
    if kind in ("system", "dependency"):
        has_signal = any(name == "signal" and value for name, value in record.figures)
        return _made(errors.WorkerCrashedError if has_signal else errors.RuntimeSystemError, record)
    return _made(errors.RuntimeUserError, record)


_KINDS: Final[tuple[tuple[type[errors.BaseRuntimeError], errors.ErrorKind], ...]] = (
    (errors.RuntimeSystemError, "system"),
    (errors.RuntimeUserError, "user"),
    (errors.BaseRuntimeError, "unknown"),
)


def _made(
    cls: type[errors.BaseRuntimeError], record: ErrorRecord, *, code: str = ""
) -> errors.BaseRuntimeError:
    exc = _pickling.blank_exception(cls, (record.message,))
    exc.worker = None
    exc.kind = next(kind for base, kind in _KINDS if base in cls.__mro__)
    exc.__dict__["code"] = code or record.type or cls.__name__
    figures = dict(record.figures)
    for name in next((names for base, names in _FIGURES_OF if issubclass(cls, base)), ()):
        exc.__dict__[name] = figures.get(name, 0)
    return exc


# ------------------------------------------------------------------ the two classes in one

#: Base of no built class, but an attribute of each: the class that the child raised.
_ORIGINAL: Final = "__millstream_original__"
_RECEIVED: Final = "_millstream_received"


def is_received(exc: BaseException) -> bool:
    """Say whether `exc` came from a child."""
    return bool(exc.__dict__.get(_RECEIVED))


def as_received(exc: BaseException, *, code: str, used_up: bool = False) -> BaseException:
    """Return `exc` as a `RuntimeUserError` that is of its own class too, where that can be.

    Args:
        exc: As it was raised.
        code: Its `code`.
        used_up: No retry was left: it is a `RetriesExhaustedError` as well.
    """
    is_built = hasattr(type(exc), _ORIGINAL)
    if not isinstance(exc, errors.BaseRuntimeError) or (is_built and used_up):
        exc = _combined(exc, code, errors.RetriesExhaustedError if used_up else None)
    exc.__dict__[_RECEIVED] = True
    return exc


def _combined(
    exc: BaseException, code: str, ours: type[errors.RuntimeUserError] | None = None
) -> BaseException:
    original: type[BaseException] = getattr(type(exc), _ORIGINAL, type(exc))
    if not issubclass(original, Exception) or issubclass(
        original, StopIteration | StopAsyncIteration | asyncio.CancelledError
    ):
        return (ours or errors.RuntimeUserError)(code or original.__name__, _text_of(exc))
    try:
        cls = _known_class(original, ours)
        both = rebuild(original, cls, _pickling.exception_args(exc))
    # A metaclass, `__init_subclass__` or `__new__` of the user's may raise anything.
    except Exception:  # noqa: BLE001
        return exc
    _pickling.fill_exception(both, _pickling.exception_state(exc))
    both.__dict__.update(code=code or original.__name__, kind="user", worker=None)
    if isinstance(both, errors.OOMError):
        both.__dict__.setdefault("limit_bytes", 0)
        both.__dict__.setdefault("peak_bytes", 0)
    return both


def as_user_error(exc: Exception) -> BaseException:
    """Return `exc` as a `RuntimeUserError` that is of its own class too, where that can be.

    Flyte wraps so what a plain call of a sync task raises; `exc` is the cause.
    """
    if isinstance(exc, errors.BaseRuntimeError):
        return exc
    both = _combined(exc, "")
    if both is not exc:
        both.__cause__ = exc
    return both


def rebuild(
    original: type[BaseException], cls: type[BaseException] | None, args: tuple[object, ...]
) -> BaseException:
    """Return an instance of the class that is `original` and `RuntimeUserError`; for unpickling."""
    return _pickling.blank_exception(cls or _known_class(original), args)


def _reduce(self: BaseException) -> tuple[object, ...]:
    original = cast("type[BaseException]", getattr(type(self), _ORIGINAL))
    made = (original, None, _pickling.exception_args(self))
    return rebuild, made, _pickling.exception_state(self), None, None, _pickling.fill_exception


def _class_for(
    original: type[BaseException], asked: type[errors.RuntimeUserError] | None
) -> type[BaseException]:
    """Return the class that is both.

    Raises:
        TypeError: There can be no such class.
    """
    word = original.__name__.upper()
    plain = asked or errors.RuntimeUserError
    ours = next((cls for part, cls in _CLASS_OF_WORD if part in word), plain)
    bases = (ours,) if issubclass(ours, original) else (original, ours)

    def fill(namespace: dict[str, object]) -> None:
        namespace.update(
            {
                # A traceback and the user's logs show the class that was raised.
                "__module__": original.__module__,
                "__qualname__": original.__qualname__,
                "__doc__": original.__doc__,
                "__str__": original.__str__,
                "__reduce__": _reduce,
                _ORIGINAL: original,
            }
        )

    return cast("type[BaseException]", types.new_class(original.__name__, bases, exec_body=fill))


_cached: Final = functools.lru_cache(maxsize=1024)(_class_for)


def _known_class(
    original: type[BaseException], ours: type[errors.RuntimeUserError] | None = None
) -> type[BaseException]:
    return _cached(cast("Hashable", original), cast("Hashable", ours))
