"""What user code can catch.

```
MillstreamError                             every error that Millstream raises on purpose
├── BaseRuntimeError (also RuntimeError)    .code, .kind, .worker
│   ├── RuntimeUserError                    kind "user": the task's own doing
│   │   ├── OOMError                        over its memory limit: .limit_bytes, .peak_bytes
│   │   ├── TaskTimeoutError                over one of its time limits
│   │   │   ├── MaxQueuedTimeExceededError
│   │   │   ├── MaxRuntimeExceededError
│   │   │   └── DeadlineExceededError
│   │   ├── ActionAbortedError              aborted from outside
│   │   ├── TaskInterruptedError
│   │   ├── RetriesExhaustedError
│   │   ├── NonRecoverableError             raise it to stop retries
│   │   ├── CustomError
│   │   ├── InlineIOMaxBytesBreached        inputs or outputs over `max_inline_io_bytes`
│   │   ├── RuntimeDataValidationError      a value that does not fit its annotation; also
│   │   │                                   TypeTransformerFailedError, TypeError, ValueError
│   │   ├── RestrictedTypeError             a value that cannot leave its process
│   │   │   └── ResultNotSerializableError
│   │   ├── NotInTaskContextError           misuse, from here on
│   │   ├── SyncTaskCallInAsyncContextError
│   │   ├── OnlyAsyncIOSupportedError
│   │   ├── TraceDoesNotAllowNestedTasksError
│   │   ├── NestingTooDeepError             .limit
│   │   ├── NonDeterministicError           a repeated parent asked for something else
│   │   ├── RemoteTaskNotFoundError, RemoteTaskUsageError
│   │   ├── ConditionTimedoutError, ConditionFailedError
│   │   ├── ConditionAlreadyExistsError, ConditionNotFoundError
│   │   ├── SlowDownError, ResourceExhaustedError
│   │   ├── ModuleLoadError                 the task's module cannot be imported
│   │   ├── CodeBundleError, DeploymentError
│   │   └── InitializationError
│   ├── RuntimeSystemError                  kind "system": a worker or node was lost
│   │   └── WorkerCrashedError              .signal
│   └── RuntimeUnknownError                 kind "unknown"
└── LogError, BusError, BlobError, RejectedError, ConfigError, ClusterError
                                            the cluster itself: `millstream_events.errors`
```

An exception that a task raises reaches the awaiting parent as its own class **and** as
`RuntimeUserError`: both `except ValueError` and `except RuntimeUserError` catch it, its
attributes are there, `.code` is the name of its class, and its traceback is its `__cause__`.
"""

from typing import Literal, TypeAlias, TypeVar

from millstream_events.errors import (
    BlobCorruptError,
    BlobError,
    BlobMissingError,
    BusDeniedError,
    BusError,
    BusUnavailableError,
    ClusterError,
    ClusterNotReachedError,
    ConfigError,
    LogError,
    LogUnavailableError,
    MillstreamError,
    PayloadTooLargeError,
    RejectedError,
    StoreInUseError,
)

ErrorKind: TypeAlias = Literal["user", "system", "unknown"]

_E = TypeVar("_E", bound=BaseException)


def restore(cls: type[_E], args: tuple[object, ...]) -> _E:
    """Return an instance of `cls` with these `args`, its `__init__` not called.

    An exception with an `__init__` of its own cannot be rebuilt from `args` by calling it.
    """
    try:
        exc = cls.__new__(cls, *args)
    except TypeError:
        exc = cls.__new__(cls)
    exc.args = args
    return exc


class BaseRuntimeError(MillstreamError, RuntimeError):
    """A task did not succeed, or was not allowed to run."""

    def __init__(self, code: str, kind: ErrorKind, message: str, worker: str | None = None) -> None:
        super().__init__(message)
        # Through `__dict__`, because `MillstreamError.code` is declared for the class.
        self.__dict__["code"] = code
        self.kind: ErrorKind = kind
        #: Name of the worker that ran the attempt, where it is known.
        self.worker = worker

    def __str__(self) -> str:
        return str(self.args[0]) if len(self.args) == 1 else str(self.args)

    def __reduce__(self) -> tuple[object, ...]:
        return restore, (type(self), self.args), dict(self.__dict__)


class RuntimeUserError(BaseRuntimeError):
    """The task failed by what its own code did; `code` is the class name of its exception."""

    def __init__(self, code: str, message: str, worker: str | None = None) -> None:
        super().__init__(code, "user", message, worker)


class RuntimeSystemError(BaseRuntimeError):
    """The task failed by something that it did not cause."""

    def __init__(self, code: str, message: str, worker: str | None = None) -> None:
        super().__init__(code, "system", message, worker)


class RuntimeUnknownError(BaseRuntimeError):
    """The task failed, and nobody knows by whose doing."""

    def __init__(self, code: str, message: str, worker: str | None = None) -> None:
        super().__init__(code, "unknown", message, worker)


class _NamedUserError(RuntimeUserError):
    """A user error whose code is the name of its class."""

    def __init__(self, message: str) -> None:
        super().__init__(type(self).__name__, message)


class OOMError(RuntimeUserError):
    """The task needed more memory than it may have.

    Catch it, and call `task.override(resources=...)` with more.
    """

    def __init__(self, message: str, *, limit_bytes: int = 0, peak_bytes: int = 0) -> None:
        super().__init__("OOMError", message)
        #: 0: not known.
        self.limit_bytes = limit_bytes
        #: 0: not known.
        self.peak_bytes = peak_bytes

    @property
    def limit(self) -> int:
        """Limit that was in force, in bytes."""
        return self.limit_bytes

    @property
    def peak(self) -> int:
        """Most memory seen in use, in bytes."""
        return self.peak_bytes


class TaskTimeoutError(RuntimeUserError):
    """The task went over one of its time limits; the subclass says which."""

    def __init__(self, message: str) -> None:
        super().__init__(type(self).__name__, message)


class MaxQueuedTimeExceededError(TaskTimeoutError):
    """An attempt waited longer than `Timeout.max_queued_time` before it started."""


class MaxRuntimeExceededError(TaskTimeoutError):
    """An attempt ran longer than `Timeout.max_runtime`."""


class DeadlineExceededError(TaskTimeoutError):
    """The action did not end within `Timeout.deadline`, all attempts together."""


class ActionAbortedError(_NamedUserError):
    """The action was aborted from outside."""


class TaskInterruptedError(_NamedUserError):
    """The task was stopped before it could end, and is not started again."""


class RetriesExhaustedError(_NamedUserError):
    """All attempts failed."""


class NonRecoverableError(RuntimeUserError):
    """Raise it in a task to stop retries, whatever budget is left."""

    def __init__(self, message: str, code: str = "NonRecoverableError") -> None:
        super().__init__(code, message)


class CustomError(RuntimeUserError):
    """An error with a code of your own."""

    @classmethod
    def from_exception(cls, exc: BaseException) -> "CustomError":
        """Return an error whose code is the name of `exc`'s class, caused by `exc`."""
        error = cls(type(exc).__name__, str(exc))
        error.__cause__ = exc
        return error


class InlineIOMaxBytesBreached(_NamedUserError):
    """Inputs or outputs are larger than the task's `max_inline_io_bytes`."""


class TypeTransformerFailedError(TypeError, AssertionError, ValueError):
    """A value could not be turned into what travels, or back: Flyte's word for it."""


class RuntimeDataValidationError(RuntimeUserError, TypeTransformerFailedError):
    """A value does not fit the annotation that it is declared with.

    Also a `TypeError` and a `ValueError`, which Flyte raises for the arguments of a call.

    Args:
        parameter: Where the value stands: a parameter, an output, or a path below one.
        expected: What the annotation asks for.
        got: What came.
        task: Name of the task, or empty.
    """

    def __init__(self, parameter: str, expected: str, got: str, task: str = "") -> None:
        place = f"{task}: {parameter}" if task else parameter
        super().__init__("RuntimeDataValidationError", f"{place}: expected {expected}, got {got}")
        self.parameter = parameter
        self.expected = expected
        self.got = got
        self.task = task


class RestrictedTypeError(_NamedUserError):
    """A value cannot be turned into bytes, so it cannot leave its process."""


class ResultNotSerializableError(RestrictedTypeError):
    """The task's result cannot be turned into bytes."""


class NotInTaskContextError(_NamedUserError):
    """Something that only a running task may do was done outside of one."""


class SyncTaskCallInAsyncContextError(_NamedUserError):
    """A sync task was called plainly from async code; write `await task.aio(...)`."""


class OnlyAsyncIOSupportedError(_NamedUserError):
    """Blocking I/O was asked for where only async I/O can be had."""


class TraceDoesNotAllowNestedTasksError(_NamedUserError):
    """A task was called inside a `trace`; call `task.forward(...)` there."""


class NestingTooDeepError(RuntimeUserError):
    """Tasks called tasks to a depth beyond the limit."""

    def __init__(self, message: str, *, limit: int = 0) -> None:
        super().__init__("NestingTooDeepError", message)
        #: Deepest level allowed; 0: not known.
        self.limit = limit


class NonDeterministicError(_NamedUserError):
    """A repeated parent asked for other calls than its former attempt did."""


class RemoteTaskNotFoundError(_NamedUserError):
    """No deployed task has that name and version."""


class RemoteTaskUsageError(_NamedUserError):
    """A reference to a deployed task was used where only a cluster can run it."""


class ConditionTimedoutError(_NamedUserError):
    """Nobody answered a condition in time."""


class ConditionFailedError(_NamedUserError):
    """A condition ended without an answer."""


class ConditionAlreadyExistsError(_NamedUserError):
    """The action has a condition of that name already."""


class ConditionNotFoundError(_NamedUserError):
    """The action has no condition of that name."""


class SlowDownError(_NamedUserError):
    """The cluster asks for fewer requests; the same call may succeed later."""


class ResourceExhaustedError(SlowDownError):
    """A queue is full; the same call may succeed later."""


class ModuleLoadError(_NamedUserError):
    """The module of a task cannot be imported, or lacks the task."""


class CodeBundleError(_NamedUserError):
    """The code of a run could not be packed, brought or unpacked."""


class DeploymentError(_NamedUserError):
    """A deployment cannot be made as it is described."""


class InitializationError(_NamedUserError):
    """Something was used before it was set up."""


class WorkerCrashedError(RuntimeSystemError):
    """The process that ran the task ended by itself, by a signal or a crash."""

    def __init__(self, message: str, *, signal: int = 0) -> None:
        super().__init__("WorkerCrashedError", message)
        #: Number of the signal that ended the process; 0: none, or not known.
        self.signal = signal


class LargePickleWarning(UserWarning):
    """A value of more than 1 MB travels by pickle, because its type says nothing better."""


__all__ = [
    "ActionAbortedError",
    "BaseRuntimeError",
    "BlobCorruptError",
    "BlobError",
    "BlobMissingError",
    "BusDeniedError",
    "BusError",
    "BusUnavailableError",
    "ClusterError",
    "ClusterNotReachedError",
    "CodeBundleError",
    "ConditionAlreadyExistsError",
    "ConditionFailedError",
    "ConditionNotFoundError",
    "ConditionTimedoutError",
    "ConfigError",
    "CustomError",
    "DeadlineExceededError",
    "DeploymentError",
    "ErrorKind",
    "InitializationError",
    "InlineIOMaxBytesBreached",
    "LargePickleWarning",
    "LogError",
    "LogUnavailableError",
    "MaxQueuedTimeExceededError",
    "MaxRuntimeExceededError",
    "MillstreamError",
    "ModuleLoadError",
    "NestingTooDeepError",
    "NonDeterministicError",
    "NonRecoverableError",
    "NotInTaskContextError",
    "OOMError",
    "OnlyAsyncIOSupportedError",
    "PayloadTooLargeError",
    "RejectedError",
    "RemoteTaskNotFoundError",
    "RemoteTaskUsageError",
    "ResourceExhaustedError",
    "RestrictedTypeError",
    "ResultNotSerializableError",
    "RetriesExhaustedError",
    "RuntimeDataValidationError",
    "RuntimeSystemError",
    "RuntimeUnknownError",
    "RuntimeUserError",
    "SlowDownError",
    "StoreInUseError",
    "SyncTaskCallInAsyncContextError",
    "TaskInterruptedError",
    "TaskTimeoutError",
    "TraceDoesNotAllowNestedTasksError",
    "TypeTransformerFailedError",
    "WorkerCrashedError",
]
