"""Errors are made, and look, as Flyte 2.12.1's do."""

import pytest

from millstream import errors
from millstream._failures import as_received, exception_of, record_of

MADE = [
    (errors.OOMError("Big", "m"), "Big", "m"),
    (errors.OOMError("m", limit_bytes=3), "OOMError", "m"),
    (errors.TaskInterruptedError("C", "m", "w"), "C", "m"),
    (errors.RetriesExhaustedError("C", "m"), "C", "m"),
    (errors.InvalidImageNameError("C", "m"), "C", "m"),
    (errors.ImagePullBackOffError("C", "m"), "C", "m"),
    (errors.PrimaryContainerNotFoundError("C", "m"), "C", "m"),
    (errors.NotInTaskContextError("C", "m"), "C", "m"),
    (errors.TaskTimeoutError("m"), "TaskTimeoutError", "m"),
    (errors.TaskTimeoutError("m", "Mine"), "Mine", "m"),
    (errors.MaxQueuedTimeExceededError("m"), "MaxQueuedTimeExceededError", "m"),
    (errors.MaxRuntimeExceededError("m"), "MaxRuntimeExceededError", "m"),
    (errors.DeadlineExceededError("m"), "DeadlineExceededError", "m"),
    (errors.NonRecoverableError("m", code="Mine"), "Mine", "m"),
    (errors.CustomError("C", "m"), "C", "m"),
    (errors.InitializationError("C", "system", "m"), "C", "m"),
    (errors.LogsNotYetAvailableError("m"), "LogsNotYetAvailable", "m"),
    (errors.RestrictedTypeError("m"), "RestrictedTypeUsage", "m"),
    (errors.ActionAbortedError("m"), "ActionAbortedError", "m"),
    (errors.InlineIOMaxBytesBreached("m"), "InlineIOMaxBytesBreached", "m"),
    (errors.ResourceExhaustedError("m"), "ResourceExhaustedError", "m"),
    (errors.ImageBuildError("m"), "ImageBuildError", "m"),
    (errors.UnionRpcError("C", "m"), "C", "m"),
    (errors.AppleSiliconDaemonOOMError("m"), "APPLE_SILICON_DAEMON_OOM", "m"),
]


@pytest.mark.parametrize(("error", "code", "text"), MADE, ids=lambda one: str(one)[:20])
def test_an_error_is_made_with_flytes_arguments(
    error: errors.BaseRuntimeError, code: str, text: str
) -> None:
    assert (error.code, str(error)) == (code, text)


def test_a_value_that_does_not_fit_is_told_in_either_form() -> None:
    short = errors.RuntimeDataValidationError("x", ValueError("no"), "env.t")
    assert short.code == "DataValidationError"
    assert "In task env.t variable x" in str(short)
    long = errors.RuntimeDataValidationError("x", "int", "str", "env.t")
    assert str(long) == "env.t: x: expected int, got str"
    assert (long.parameter, long.expected, long.got, long.task) == ("x", "int", "str", "env.t")


def test_the_classes_stand_where_flyte_has_them() -> None:
    assert not issubclass(errors.InitializationError, errors.RuntimeUserError)
    assert issubclass(errors.ResourceExhaustedError, errors.SlowDownError)
    assert issubclass(errors.ActionNotFoundError, RuntimeError)
    assert issubclass(errors.UnionRpcError, errors.RuntimeSystemError)
    assert errors.GPUFaultUserError.__mro__.index(errors.GPUFaultError) == 1
    assert errors.InvalidPackageError("p", "e").package_name == "p"


def test_a_gpu_fault_has_the_number_of_its_kind() -> None:
    fault = errors.GPUFaultSystemError("GpuXidError", "m", fault_kind="xid", fault_code=79)
    assert (fault.kind, fault.xid, fault.sxid, fault.node) == ("system", 79, None, None)
    assert fault.code in errors.GPU_FAULT_CODES


@pytest.mark.parametrize("act", ["+", "-", "*", "/", "//"])
def test_an_error_taken_for_a_number_raises_itself(act: str) -> None:
    error = errors.RuntimeUserError("Mine", "m")
    for expression in (f"error {act} 1", f"1 {act} error"):
        with pytest.raises(errors.RuntimeUserError, match="m"):
            eval(expression, {"error": error})


class GpuOOMProblem(Exception):
    pass


@pytest.mark.parametrize(
    ("raised", "also"),
    [
        (GpuOOMProblem("m"), errors.OOMError),
        (InterruptedError("m"), errors.TaskInterruptedError),
        (ValueError("m"), errors.RuntimeUserError),
    ],
)
def test_a_word_in_the_name_of_a_class_decides_which_of_flytes_it_is(
    raised: Exception, also: type[errors.RuntimeUserError]
) -> None:
    record = record_of(raised)
    found = exception_of(record, phase="FAILED", action="a1", task="e.t")
    assert isinstance(found, also)
    assert isinstance(found, type(raised))
    assert found.code == type(raised).__name__
    assert isinstance(as_received(raised, code=""), also)


def test_retries_stop_at_errors_that_cannot_heal() -> None:
    assert not record_of(errors.NonRecoverableError("m")).retryable
    assert not record_of(errors.AppleSiliconNotAvailableError("m")).retryable
    assert record_of(errors.AppleSiliconDaemonOOMError("m")).retryable


def test_a_record_without_an_exception_finds_the_class_of_its_code() -> None:
    record = record_of(errors.RuntimeDataValidationError("x", "int", "str", ""))
    bare = type(record)("user", record.type, record.message)
    found = exception_of(bare, phase="FAILED", action="a1", task="t")
    assert type(found) is errors.RuntimeDataValidationError
