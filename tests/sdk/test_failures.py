"""What a parent sees of how its child failed."""

import asyncio
import json
import pickle
import subprocess
import sys
import threading
import traceback
import types

import pytest

from millstream import _failures, errors
from millstream._failures import RemoteTraceback, exception_of, record_of
from millstream_events.phases import Phase
from millstream_events.values import ErrorRecord, Inline


class OwnInitError(ValueError):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.status = code
        self.detail = detail


class KeywordOnlyError(Exception):
    def __init__(self, *, needed: int) -> None:
        self.needed = needed

    def __str__(self) -> str:
        return f"needed {self.needed}"


class OddNewError(Exception):
    def __new__(cls, *args: object, **kwargs: object) -> "OddNewError":  # noqa: PYI034
        raise TypeError("no")


class ReducedError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)
        self.two = two

    def __reduce__(self) -> tuple[object, ...]:
        return ReducedError, (self.args[0], self.two)


class Meta(type):
    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, object]) -> type:
        if name == "FinalError" and "allowed" not in space:
            raise TypeError("final")
        return super().__new__(mcs, name, bases, space)


class FinalError(Exception, metaclass=Meta):
    allowed = True


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:
        return caught


def received(exc: BaseException, phase: str = Phase.FAILED) -> BaseException:
    record = pickle.loads(pickle.dumps(record_of(raised(exc))))
    return exception_of(record, phase=phase, action="a3", task="env.child")


ORIGINALS = [
    ValueError("boom 3"),
    KeyError("k"),
    ZeroDivisionError(),
    OwnInitError(404, "gone"),
    KeywordOnlyError(needed=2),
    ReducedError(1, 2),
    FileNotFoundError(2, "no such file", "/x"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    json.JSONDecodeError("bad", "{", 0),
    ImportError("no module", name="m"),
    RuntimeError("plain"),
    Exception("bare"),
    AttributeError("x", name="y"),
    TimeoutError("t"),
    AssertionError((1, 2)),
    subprocess.CalledProcessError(3, ["x"]),
]


@pytest.mark.parametrize("original", ORIGINALS, ids=lambda exc: type(exc).__name__)
def test_a_childs_exception_is_of_its_own_class_and_of_flytes(original: Exception) -> None:
    exc = received(original)
    assert isinstance(exc, type(original))
    assert isinstance(exc, errors.RuntimeUserError)
    assert str(exc) == str(original)
    assert exc.args == original.args
    assert (exc.code, exc.kind) == (type(original).__name__, "user")
    for name, value in vars(original).items():
        assert getattr(exc, name) == value
    assert type(exc).__name__ == type(original).__name__


def test_fields_that_a_built_in_keeps_apart_come_back() -> None:
    exc = received(FileNotFoundError(2, "no such file", "/x"))
    assert isinstance(exc, OSError)
    assert (exc.errno, exc.filename) == (2, "/x")
    bad = received(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"))
    assert isinstance(bad, UnicodeDecodeError)
    assert (bad.object, bad.end) == (b"\xff", 1)
    missing = received(ImportError("no", name="m"))
    assert isinstance(missing, ImportError)
    assert missing.name == "m"


@pytest.mark.parametrize("original", ORIGINALS, ids=lambda exc: type(exc).__name__)
def test_what_a_parent_got_survives_pickling(original: Exception) -> None:
    exc = received(original)
    back = pickle.loads(pickle.dumps(exc))
    assert type(back) is type(exc)
    assert (str(back), back.args) == (str(exc), exc.args)
    assert back.code == type(original).__name__
    assert vars(back).keys() == vars(exc).keys()


def test_a_parent_sees_where_the_child_raised_it() -> None:
    exc = received(ValueError("boom"))
    assert isinstance(exc.__cause__, RemoteTraceback)
    text = "".join(traceback.format_exception(exc))
    assert "in raised" in text
    assert "raised in task env.child, action a3" in text


def test_causes_notes_and_groups_come_back() -> None:
    original = OwnInitError(1, "x")
    original.__cause__ = KeyError("inner")
    original.add_note("a note")
    exc = received(original)
    assert isinstance(exc.__context__, KeyError)
    assert exc.__notes__[0] == "a note"
    group = received(ExceptionGroup("several", [ValueError("v"), original]))
    assert isinstance(group, ExceptionGroup)
    assert isinstance(group, errors.RuntimeUserError)
    inner = group.exceptions[1]
    assert isinstance(inner, OwnInitError)
    assert (inner.status, str(inner.__cause__)) == (1, "'inner'")


def test_an_exception_that_refers_to_itself_comes_back() -> None:
    original = ValueError("loop")
    original.me = original  # type: ignore[attr-defined]
    exc = received(original)
    assert isinstance(exc, ValueError)


def test_a_passed_exception_keeps_its_code_through_many_parents() -> None:
    exc = received(received(received(OwnInitError(7, "deep"))))
    assert isinstance(exc, OwnInitError)
    assert (exc.code, exc.status, str(exc)) == ("OwnInitError", 7, "deep (7)")
    assert sum("raised in task" in note for note in exc.__notes__) == 3


@pytest.mark.parametrize("original", [StopIteration(3), SystemExit(2), KeyboardInterrupt()])
def test_what_python_gives_a_meaning_is_not_raised_again(original: BaseException) -> None:
    exc = received(original)
    assert type(exc) is errors.RuntimeUserError
    assert exc.code == type(original).__name__


def test_a_class_that_cannot_be_both_stays_itself() -> None:
    exc = received(FinalError("f"))
    assert type(exc) is FinalError


def test_what_cannot_be_rebuilt_becomes_the_wrapper_with_its_text() -> None:
    record = record_of(raised(ValueError("boom")))
    for pickled in (None, Inline("exception", b"\x80garbage"), Inline("other", b"")):
        bad = ErrorRecord("user", "SomeError", "boom", record.traceback, pickled=pickled)
        exc = exception_of(bad, phase=Phase.FAILED, action="a1", task="t")
        assert type(exc) is errors.RuntimeUserError
        assert (exc.code, str(exc)) == ("SomeError", "boom")
    odd = Exception.__new__(OddNewError, "x")
    odd.args = ("x",)
    exc = received(odd)
    assert type(exc) is errors.RuntimeUserError
    assert exc.code == "OddNewError"


def test_an_attribute_that_cannot_be_sent_is_left_out() -> None:
    original = OwnInitError(5, "locked")
    original.lock = threading.Lock()  # type: ignore[attr-defined]
    exc = received(original)
    assert isinstance(exc, OwnInitError)
    assert exc.status == 5
    assert not hasattr(exc, "lock")


def test_a_record_has_bounds() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise OwnInitError(n, "x" * 200_000)

    with pytest.raises(OwnInitError) as caught:
        deep(50)
    record = record_of(caught.value)
    assert len(record.message) < 9_000
    assert len(record.traceback.encode()) <= 16 * 1024
    assert record.pickled is None
    exc = exception_of(record, phase=Phase.FAILED, action="a1", task="t")
    assert type(exc) is errors.RuntimeUserError


def test_a_class_that_breaks_its_own_text_is_recorded_all_the_same() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    record = record_of(raised(Broken()))
    assert record.type == "Broken"
    assert "ValueError" in record.message


def test_only_frames_of_user_code_are_kept() -> None:
    async def task() -> None:
        raise ValueError("boom")

    async def run() -> None:
        async with asyncio.timeout(5):
            await asyncio.gather(task())

    with pytest.raises(ValueError, match="boom") as caught:
        asyncio.run(run())
    text = record_of(caught.value).traceback
    assert "in task" in text
    assert "asyncio/" not in text.replace("test_", "")


@pytest.mark.parametrize(
    ("record", "phase", "cls"),
    [
        (ErrorRecord("oom", "OOMError", "m"), Phase.FAILED, errors.OOMError),
        (ErrorRecord("timeout", "MaxRuntimeExceededError", "m"), Phase.TIMED_OUT,
         errors.MaxRuntimeExceededError),
        (ErrorRecord("timeout", "MaxQueuedTimeExceededError", "m"), Phase.FAILED,
         errors.MaxQueuedTimeExceededError),
        (ErrorRecord("timeout", "DeadlineExceededError", "m"), Phase.TIMED_OUT,
         errors.DeadlineExceededError),
        (ErrorRecord("timeout", "", "m"), Phase.TIMED_OUT, errors.TaskTimeoutError),
        (ErrorRecord("cancelled", "CancelledError", "m"), Phase.ABORTED,
         errors.ActionAbortedError),
        (ErrorRecord("user", "ValueError", "m"), Phase.SKIPPED, errors.ActionAbortedError),
        (ErrorRecord("system", "WorkerCrashedError", "m"), Phase.FAILED,
         errors.WorkerCrashedError),
        (ErrorRecord("system", "WorkerLostError", "m"), Phase.FAILED, errors.RuntimeSystemError),
        (ErrorRecord("dependency", "ModuleLoadError", "m"), Phase.FAILED, errors.ModuleLoadError),
        (ErrorRecord("dependency", "BlobMissingError", "m"), Phase.FAILED,
         errors.RuntimeSystemError),
        (ErrorRecord("user", "ResultNotSerializable", "m"), Phase.FAILED,
         errors.ResultNotSerializableError),
    ],
)  # fmt: skip
def test_every_end_has_its_class(
    record: ErrorRecord, phase: str, cls: type[errors.BaseRuntimeError]
) -> None:
    exc = exception_of(record, phase=phase, action="a1", task="t")
    assert type(exc) is cls
    assert str(exc) == "m"
    assert exc.code
    assert type(pickle.loads(pickle.dumps(exc))) is cls


def test_figures_come_back_on_the_error() -> None:
    record = ErrorRecord("oom", "OOMError", "m", figures=(("limit_bytes", 5), ("peak_bytes", 6)))
    exc = exception_of(record, phase=Phase.FAILED, action="a1", task="t")
    assert isinstance(exc, errors.OOMError)
    assert (exc.limit, exc.peak) == (5, 6)
    again = received(exc)
    assert isinstance(again, errors.OOMError)
    assert (again.limit, again.peak) == (5, 6)
    crash = ErrorRecord("system", "WorkerCrashedError", "m", figures=(("signal", 11),))
    found = exception_of(crash, phase=Phase.FAILED, action="a1", task="t")
    assert isinstance(found, errors.WorkerCrashedError)
    assert found.signal == 11


def test_a_parent_that_lets_pass_what_befell_its_child_failed_by_its_own_code() -> None:
    assert record_of(errors.OOMError("m")).kind == "oom"
    crash = ErrorRecord("system", "WorkerCrashedError", "m")
    passed = exception_of(crash, phase=Phase.FAILED, action="a1", task="t")
    record = record_of(raised(passed))
    assert (record.kind, record.type) == ("user", "WorkerCrashedError")


def test_only_what_says_so_is_not_retried() -> None:
    assert record_of(ValueError()).retryable
    assert not record_of(errors.NonRecoverableError("stop", code="Bad")).retryable
    exc = received(errors.NonRecoverableError("stop", code="Bad"))
    assert isinstance(exc, errors.NonRecoverableError)
    assert (exc.code, str(exc)) == ("Bad", "stop")


MAIN = """
import base64, sys
from millstream._failures import exception_of, record_of
from millstream_events.codec import encode
from millstream_events.values import ErrorRecord
import msgspec
class MyError(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b
if len(sys.argv) == 1:
    print(base64.b64encode(encode(record_of(MyError(1, 2)))).decode())
else:
    record = msgspec.msgpack.decode(base64.b64decode(sys.argv[1]), type=ErrorRecord)
    try:
        raise exception_of(record, phase="FAILED", action="a1", task="t")
    except MyError as exc:
        print("caught", exc.b, exc.code)
"""


def test_a_class_of_the_script_itself_is_caught_by_its_name() -> None:
    def run(*args: str) -> str:
        command = [sys.executable, "-c", MAIN, *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert run(run()) == "caught 2 MyError"


def test_a_class_that_is_nowhere_to_be_found_travels_along() -> None:
    module = types.ModuleType("__mp_main__")
    exec("class GhostError(Exception): pass", module.__dict__)
    record = record_of(module.GhostError("boo"))
    exc = exception_of(record, phase=Phase.FAILED, action="a1", task="t")
    assert (type(exc).__name__, str(exc)) == ("GhostError", "boo")
    assert isinstance(exc, errors.RuntimeUserError)


def test_a_traceback_shows_the_class_that_was_raised() -> None:
    text = "".join(traceback.format_exception_only(received(OwnInitError(1, "x"))))
    assert text.startswith(f"{OwnInitError.__module__}.OwnInitError: x (1)")
    assert _failures.is_received(received(ValueError()))
