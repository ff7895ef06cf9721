"""What user code can catch.

```
MillstreamError                             every error that Millstream raises on purpose
├── BaseRuntimeError (also RuntimeError)    .code, .kind, .worker
│   ├── RuntimeUserError                    kind "user": the task's own doing
│   │   ├── OOMError                        over its memory limit: .limit_bytes, .peak_bytes
│   │   ├── TaskTimeoutError                over one of its time limits
│   │   │   ├── MaxQueuedTimeExceededError, MaxRuntimeExceededError
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
│   │   ├── SlowDownError
│   │   │   └── ResourceExhaustedError
│   │   ├── ModuleLoadError                 the task's module cannot be imported
│   │   ├── CodeBundleError, DeploymentError
│   │   ├── SecretNotFoundError             a secret that nobody has set
│   │   ├── ImageBuildError, InvalidPackageError, InvalidImageNameError, ImagePullBackOffError
│   │   ├── PlanError                       no plan can be made, or walked
│   │   │   ├── StaticControlFlowError, PlanTypeError (also TypeError), PlanInputError
│   │   │   └── PlanCycleError, PlanTooLargeError
│   │   ├── PrimaryContainerNotFoundError, ParameterMaterializationError
│   │   ├── GPUFaultUserError               also a GPUFaultError
│   │   └── AppleSiliconError               .recoverable
│   │       ├── AppleSiliconNotAvailableError, AppleSiliconHostExecFailedError
│   │       ├── AppleSiliconDaemonStartFailedError, AppleSiliconDaemonOOMError
│   │       └── AppleSiliconModelNotFoundError, AppleSiliconBridgeUnreachableError
│   ├── RuntimeSystemError                  kind "system": a worker or node was lost
│   │   ├── WorkerCrashedError              .signal
│   │   ├── UnionRpcError
│   │   └── GPUFaultSystemError             also a GPUFaultError
│   ├── RuntimeUnknownError                 kind "unknown"
│   ├── GPUFaultError                       .xid, .sxid, .node, ...
│   ├── InitializationError                 something was used before it was set up
│   │   └── ConfigFileNotFoundError         also a ConfigError and a FileNotFoundError
│   └── LogsNotYetAvailableError
├── ActionNotFoundError (also RuntimeError)
└── LogError, BusError, BlobError, RejectedError, ConfigError, ClusterError   the cluster itself
```

An exception that a task raises reaches the awaiting parent as its own class **and** as
`RuntimeUserError`: both `except ValueError` and `except RuntimeUserError` catch it, its
attributes are there, `.code` is the name of its class, and its traceback is its `__cause__`.
"""

import asyncio
from typing import Any

from millstream import (
    _errors_devices,
    _errors_images,
    _errors_plans,
    _errors_roots,
    _errors_setup,
)
from millstream._errors_devices import (
    APPLE_SILICON_ERRORS_BY_CODE,
    GPU_FAULT_CODES,
    AppleSiliconBridgeUnreachableError,
    AppleSiliconDaemonOOMError,
    AppleSiliconDaemonStartFailedError,
    AppleSiliconError,
    AppleSiliconHostExecFailedError,
    AppleSiliconModelNotFoundError,
    AppleSiliconNotAvailableError,
    GPUFaultError,
    GPUFaultSystemError,
    GPUFaultUserError,
)
from millstream._errors_images import (
    ImageBuildError,
    ImagePullBackOffError,
    InvalidImageNameError,
    InvalidPackageError,
    ParameterMaterializationError,
    PrimaryContainerNotFoundError,
)
from millstream._errors_plans import (
    PlanCycleError,
    PlanError,
    PlanInputError,
    PlanTooLargeError,
    PlanTypeError,
    StaticControlFlowError,
)
from millstream._errors_roots import (
    BaseRuntimeError,
    ErrorKind,
    RuntimeSystemError,
    RuntimeUnknownError,
    RuntimeUserError,
)
from millstream._errors_roots import CodedUserError as _CodedUserError
from millstream._errors_roots import NamedUserError as _NamedUserError
from millstream._errors_setup import ConfigFileNotFoundError, InitializationError
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

# Tracebacks and pickles name the public module.
for _module in (_errors_roots, _errors_devices, _errors_images, _errors_plans, _errors_setup):
    for _name, _found in vars(_module).items():
        # What a module imports for itself, such as `typing.Any`, is none of ours.
        if getattr(_found, "__module__", None) == _module.__name__ and _name in globals():
            _found.__module__ = __name__


class OOMError(_CodedUserError):
    """The task needed more memory than it may have.

    Catch it, and call `task.override(resources=...)` with more.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        worker: str | None = None,
        *,
        limit_bytes: int = 0,
        peak_bytes: int = 0,
    ) -> None:
        super().__init__(code, message, worker)
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

    def __init__(self, message: str, code: str = "TaskTimeoutError") -> None:
        super().__init__(code, message)


class MaxQueuedTimeExceededError(TaskTimeoutError):
    """An attempt waited longer than `Timeout.max_queued_time` before it started."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "MaxQueuedTimeExceededError")


class MaxRuntimeExceededError(TaskTimeoutError):
    """An attempt ran longer than `Timeout.max_runtime`."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "MaxRuntimeExceededError")


class DeadlineExceededError(TaskTimeoutError):
    """The action did not end within `Timeout.deadline`, all attempts together."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "DeadlineExceededError")


class ActionAbortedError(_NamedUserError):
    """The action was aborted from outside."""


class TaskInterruptedError(_CodedUserError):
    """The task was stopped before it could end, and is not started again."""


class RetriesExhaustedError(_CodedUserError):
    """All attempts failed."""


class NonRecoverableError(RuntimeUserError):
    """Raise it in a task to stop retries, whatever budget is left."""

    def __init__(self, message: str, code: str = "NonRecoverableError") -> None:
        super().__init__(code, message)


class CustomError(RuntimeUserError):
    """An error with a code of your own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)

    @classmethod
    def from_exception(cls, e: BaseException) -> "CustomError":
        """Return an error whose code is the name of `e`'s class, caused by `e`."""
        error = cls(type(e).__name__, str(e))
        error.__cause__ = e
        return error


class InlineIOMaxBytesBreached(_NamedUserError):
    """Inputs or outputs are larger than the task's `max_inline_io_bytes`."""


class TypeTransformerFailedError(TypeError, AssertionError, ValueError):
    """A value could not be turned into what travels, or back: Flyte's word for it."""


class RuntimeDataValidationError(RuntimeUserError, TypeTransformerFailedError):
    """A value does not fit the annotation that it is declared with.

    Also a `TypeError` and a `ValueError`, which Flyte raises for the arguments of a call.
    Made as `(var, e, task_name)`, or as `(parameter, expected, got, task)`.

    Attributes:
        parameter: Where the value stands: a parameter, an output, or a path below one.
        expected: What the annotation asks for; of the short form: all that is known.
        got: What came.
        task: Name of the task, or empty.
    """

    def __init__(
        self, var: str, e: Exception | str, task_name: str = "", task: str | None = None
    ) -> None:
        if task is None:
            place = f"In task {task_name} variable {var}" if task_name else f"Variable {var}"
            text = f"{place}, failed to serialize/deserialize because of {e}"
            got, task = "", task_name
        else:
            place, got = (f"{task}: {var}" if task else var), task_name
            text = f"{place}: expected {e}, got {got}"
        super().__init__("DataValidationError", text)
        self.parameter = var
        self.expected = str(e)
        self.got = got
        self.task = task


class RestrictedTypeError(_NamedUserError):
    """A value cannot be turned into bytes, so it cannot leave its process."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.__dict__["code"] = "RestrictedTypeUsage"


class ResultNotSerializableError(RestrictedTypeError):
    """The task's result cannot be turned into bytes."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.__dict__["code"] = "ResultNotSerializableError"


class NotInTaskContextError(_CodedUserError):
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

    CODE = "RemoteTaskNotFoundError"


class RemoteTaskUsageError(_NamedUserError):
    """A reference to a deployed task was used where only a cluster can run it."""

    CODE = "RemoteTaskUsageError"


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


class SecretNotFoundError(_NamedUserError):
    """A secret that a task asks for is in none of its agent's stores."""


class DeploymentError(_NamedUserError):
    """A deployment cannot be made as it is described."""


class LogsNotYetAvailableError(BaseRuntimeError):
    """Nothing has been logged yet."""

    def __init__(self, message: str) -> None:
        super().__init__("LogsNotYetAvailable", "system", message)


class ActionNotFoundError(MillstreamError, RuntimeError):
    """The run has no action of that name."""


class UnionRpcError(RuntimeSystemError):
    """The cluster could not be talked to; Millstream raises `ClusterNotReachedError` instead."""


class WorkerCrashedError(RuntimeSystemError):
    """The process that ran the task ended by itself, by a signal or a crash."""

    def __init__(self, message: str, *, signal: int = 0) -> None:
        super().__init__("WorkerCrashedError", message)
        #: Number of the signal that ended the process; 0: none, or not known.
        self.signal = signal


def silence_polling_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what a loop caught, but for `BlockingIOError`: an exception handler for loops."""
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)


class LargePickleWarning(UserWarning):
    """A value of more than 1 MB travels by pickle, because its type says nothing better."""


__all__ = [
    "APPLE_SILICON_ERRORS_BY_CODE",
    "ActionAbortedError",
    "ActionNotFoundError",
    "AppleSiliconBridgeUnreachableError",
    "AppleSiliconDaemonOOMError",
    "AppleSiliconDaemonStartFailedError",
    "AppleSiliconError",
    "AppleSiliconHostExecFailedError",
    "AppleSiliconModelNotFoundError",
    "AppleSiliconNotAvailableError",
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
    "ConfigFileNotFoundError",
    "CustomError",
    "DeadlineExceededError",
    "DeploymentError",
    "ErrorKind",
    "GPUFaultError",
    "GPUFaultSystemError",
    "GPUFaultUserError",
    "GPU_FAULT_CODES",
    "ImageBuildError",
    "ImagePullBackOffError",
    "InitializationError",
    "InlineIOMaxBytesBreached",
    "InvalidImageNameError",
    "InvalidPackageError",
    "LargePickleWarning",
    "LogError",
    "LogUnavailableError",
    "LogsNotYetAvailableError",
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
    "ParameterMaterializationError",
    "PayloadTooLargeError",
    "PlanCycleError",
    "PlanError",
    "PlanInputError",
    "PlanTooLargeError",
    "PlanTypeError",
    "PrimaryContainerNotFoundError",
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
    "SecretNotFoundError",
    "SlowDownError",
    "StaticControlFlowError",
    "StoreInUseError",
    "SyncTaskCallInAsyncContextError",
    "TaskInterruptedError",
    "TaskTimeoutError",
    "TraceDoesNotAllowNestedTasksError",
    "TypeTransformerFailedError",
    "UnionRpcError",
    "WorkerCrashedError",
    "silence_polling_error",
]
