"""Attempts without a process or a link: what local mode and a worker share."""

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest

from millstream._context import Call, TraceResult, current
from millstream_events.errors import BlobMissingError, LogUnavailableError
from millstream_events.ids import ROOT_ID
from millstream_events.reports import JournalEntry, Work
from millstream_events.values import Inline, TaskRef, Value
from millstream_executor.attempt import Attempt, AttemptHost, RunnableTask, run_attempt
from millstream_executor.link import AttemptEnded
from millstream_executor.threads import TaskThreads

WORK = Work(1, "r", 0, ROOT_ID, 3, b"t", TaskRef("t.f", "m", "f"), None)


class Plain:
    """Text in, text out."""

    output_names = ("o0",)

    def __init__(self, func: Callable[..., Any]) -> None:
        self.is_async = inspect.iscoroutinefunction(func)

    def decode_call(self, codec: str, content: bytes | None) -> tuple[tuple[Any, ...], dict]:
        return (() if content is None else (content.decode(),)), {}

    def encode_output(self, value: Any, sink: object) -> tuple[str, bytes] | None:
        return None if value is None else ("text", value.encode())


class Task:
    max_inline_io_bytes = 10 * 1024 * 1024
    report = False

    def __init__(self, func: Callable[..., Any]) -> None:
        self.body = func
        self.interface = Plain(func)


class Host:
    """A controller whose calls never end by themselves."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[JournalEntry]] = []
        self.failing: Exception | None = None

    async def call(self, call: Call) -> JournalEntry:
        future: asyncio.Future[JournalEntry] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return await future

    def stop(self) -> None:
        for future in self.waiting:
            future.cancel()

    async def sleep(self, action_id: bytes, due_ms: int) -> None:
        raise NotImplementedError

    def recorded(self, action_id: bytes) -> JournalEntry | None:
        return None

    def divergence(self) -> None:
        return None

    async def record_trace(self, result: TraceResult) -> None:
        raise NotImplementedError

    async def fetch(self, value: Value) -> bytes:
        if self.failing is not None:
            raise self.failing
        assert isinstance(value, Inline)
        return value.content

    async def store(self, content: bytes, codec: str) -> Value:
        if self.failing is not None:
            raise self.failing
        return Inline(codec, content)


@pytest.fixture
def controller() -> Host:
    return Host()


@pytest.fixture
async def host(controller: Host) -> AttemptHost:
    return AttemptHost(threads=TaskThreads(), mode="local", stop_calls=controller.stop)


async def run(func: Callable[..., Any], controller: Host, host: AttemptHost) -> AttemptEnded:
    return await run_attempt(WORK, Task(func), controller, host)


async def test_user_code_sees_the_attempt_that_it_belongs_to(
    controller: Host, host: AttemptHost
) -> None:
    def sync() -> str:
        context = current.get()
        assert context is not None
        return f"{context.run} {context.attempt} {context.mode}"

    async def asynchronous() -> str:
        return sync()

    for func in (sync, asynchronous):
        end = await run(func, controller, host)
        assert end.output == Inline("text", b"r 3 local")
    assert current.get() is None


async def test_a_base_exception_of_a_task_does_not_leave_the_attempt(
    controller: Host, host: AttemptHost
) -> None:
    class Odd(BaseException):
        pass

    async def func() -> None:
        raise Odd

    end = await run(func, controller, host)
    assert end.error is not None
    assert (end.error.kind, end.error.type) == ("user", "Odd")


async def test_an_exception_whose_text_fails_is_told_all_the_same(
    controller: Host, host: AttemptHost
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    async def func() -> None:
        raise Mute

    end = await run(func, controller, host)
    assert end.error is not None
    assert end.error.type == "Mute"


@pytest.mark.parametrize(
    ("failing", "kind", "retryable"),
    [
        (BlobMissingError("ab"), "dependency", False),
        (LogUnavailableError("blobs"), "system", True),
    ],
)
async def test_a_result_that_cannot_be_kept_is_not_the_tasks_fault(
    controller: Host, host: AttemptHost, failing: Exception, kind: str, retryable: bool
) -> None:
    async def func() -> str:
        controller.failing = failing
        return "done"

    end = await run(func, controller, host)
    assert end.error is not None
    assert (end.error.kind, end.error.retryable) == (kind, retryable)


async def test_a_cancellation_that_nobody_asked_for_is_an_error_of_the_task(
    controller: Host, host: AttemptHost
) -> None:
    async def func() -> None:
        raise asyncio.CancelledError

    end = await run(func, controller, host)
    assert end.error is not None
    assert end.error.kind == "user"


async def test_cancelling_before_the_first_turn_runs_no_user_code(
    controller: Host, host: AttemptHost
) -> None:
    async def func() -> None:
        raise AssertionError("it ran")

    async def load() -> RunnableTask:
        return Task(func)

    attempt = Attempt(WORK, controller, host)
    attempt.cancel()
    end = await attempt.run(load)
    assert end.error is not None
    assert end.error.kind == "cancelled"


async def test_cancelling_the_surrounding_task_reaches_code_that_blocks_a_thread(
    controller: Host, host: AttemptHost
) -> None:
    entered = threading.Event()
    call = Call(b"c", "task", TaskRef("x"), None, "", b"")

    def func() -> str:
        context = current.get()
        assert context is not None
        entered.set()
        asyncio.run_coroutine_threadsafe(context.controller.call(call), context.loop).result()
        return "unreached"

    running = asyncio.create_task(run(func, controller, host))
    await asyncio.to_thread(entered.wait)
    async with asyncio.timeout(5):
        while not controller.waiting:
            await asyncio.sleep(0.001)
    running.cancel()
    end = await running
    assert end.error is not None
    assert end.error.kind == "cancelled"


async def test_running_out_of_memory_alone_under_a_limit_is_an_oom_error(
    controller: Host, host: AttemptHost
) -> None:
    def func() -> None:
        raise MemoryError

    alone = AttemptHost(threads=host.threads, mode="remote", alone=True, memory_max_bytes=1000)
    end = await run(func, controller, alone)
    assert end.error is not None
    assert end.error.kind == "oom"
    assert end.usage is not None
    end = await run(func, controller, host)
    assert end.error is not None
    assert end.error.kind == "user"


async def test_cancelling_the_surrounding_task_cancels_async_code(
    controller: Host, host: AttemptHost
) -> None:
    entered = asyncio.Event()

    async def func() -> None:
        entered.set()
        await asyncio.sleep(600)

    running = asyncio.create_task(run(func, controller, host))
    await entered.wait()
    running.cancel()
    end = await running
    assert end.error is not None
    assert end.error.kind == "cancelled"
