"""Routing of what tasks print, in this process."""

import asyncio
import contextvars
import io
import threading

import pytest

from millstream_executor import capture
from millstream_executor.link import Printed


class Heard:
    def __init__(self) -> None:
        self.printed: list[Printed] = []

    def lines(self, token: bytes) -> list[str]:
        found = [item for item in self.printed if item.token == token]
        return [line.text for item in found for line in item.lines]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def captured(heard: Heard) -> capture.Capture:
    return capture.Capture(heard.printed.append, asyncio.get_running_loop())


@pytest.fixture
async def router(captured: capture.Capture) -> capture.Router:
    router = capture.Router(capture.STDOUT)
    router.capture = captured
    return router


def inside(output: capture.AttemptOutput) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(capture.enter, output)
    return context


async def test_lines_leave_by_themselves_within_a_moment(
    heard: Heard, captured: capture.Capture, router: capture.Router
) -> None:
    context = inside(captured.open(b"a", 2))
    context.run(print, "hello", file=router)
    assert heard.printed == []
    async with asyncio.timeout(2):
        while not heard.printed:
            await asyncio.sleep(0.005)
    [line] = heard.printed[0].lines
    assert (line.text, line.attempt, line.stream, line.native) == ("hello", 2, 1, False)


async def test_many_lines_leave_at_once(
    heard: Heard, captured: capture.Capture, router: capture.Router
) -> None:
    context = inside(captured.open(b"a", 1))
    for n in range(capture.FLUSH_LINES):
        context.run(print, n, file=router)
    assert heard.lines(b"a") == [str(n) for n in range(capture.FLUSH_LINES)]


async def test_partial_lines_of_attempts_and_threads_are_not_mixed(
    heard: Heard, captured: capture.Capture, router: capture.Router
) -> None:
    contexts = [inside(captured.open(token, 1)) for token in (b"a", b"b")]

    def chat(name: str) -> None:
        for n in range(300):
            router.write(f"{name}:")
            router.write(f"{n}\n")

    threads = [
        threading.Thread(target=context.copy().run, args=(chat, f"{number}{part}"))
        for number, context in enumerate(contexts)
        for part in "xyz"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    captured.close(b"a")
    captured.close(b"b")
    for number, token in enumerate((b"a", b"b")):
        expected = {f"{number}{part}:{n}" for part in "xyz" for n in range(300)}
        assert set(heard.lines(token)) == expected
        assert len(heard.lines(token)) == len(expected)


async def test_the_unfinished_line_comes_with_the_end_of_the_attempt(
    heard: Heard, captured: capture.Capture, router: capture.Router
) -> None:
    inside(captured.open(b"a", 1)).run(router.write, "no newline")
    captured.close(b"a")
    assert heard.lines(b"a") == ["no newline"]


async def test_a_long_line_is_cut(
    heard: Heard, captured: capture.Capture, router: capture.Router
) -> None:
    inside(captured.open(b"a", 1)).run(router.write, "x" * (2 * capture.LINE_CHARS_MAX + 5) + "\n")
    captured.close(b"a")
    assert [len(line) for line in heard.lines(b"a")] == [
        capture.LINE_CHARS_MAX,
        capture.LINE_CHARS_MAX,
        5,
    ]


async def test_what_nobody_takes_in_time_is_dropped_and_counted(
    heard: Heard, captured: capture.Capture, router: capture.Router
) -> None:
    context = inside(captured.open(b"a", 1))
    extra = 7

    def flood() -> None:
        for n in range(capture.PENDING_LINES_MAX + extra):
            router.write(f"{n}\n")

    # From a thread, while the loop does not come round to send anything.
    thread = threading.Thread(target=context.run, args=(flood,))
    thread.start()
    thread.join()
    captured.close(b"a")
    assert len(heard.lines(b"a")) == capture.PENDING_LINES_MAX
    assert sum(item.dropped for item in heard.printed) == extra


async def test_code_outside_of_attempts_prints_for_the_worker(
    heard: Heard, captured: capture.Capture, router: capture.Router
) -> None:
    router.write("from nowhere\n")
    captured.finish()
    assert heard.lines(b"") == ["from nowhere"]


async def test_the_router_is_a_text_stream_with_bytes_below(
    heard: Heard, captured: capture.Capture, router: capture.Router
) -> None:
    context = inside(captured.open(b"a", 1))
    context.run(router.buffer.write, b"bytes\n")
    context.run(router.writelines, ["one\n", "two\n"])
    captured.close(b"a")
    assert heard.lines(b"a") == ["bytes", "one", "two"]
    assert isinstance(router, io.TextIOBase)
    assert (router.encoding, router.isatty(), router.fileno()) == ("utf-8", False, 1)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    written: list[tuple[int, bytes]] = []
    monkeypatch.setattr(capture.os, "write", lambda fd, chunk: written.append((fd, chunk)))
    return written


def test_an_inactive_router_writes_through(pipe: list[tuple[int, bytes]]) -> None:
    capture.Router(capture.STDERR).write("early\n")
    assert pipe == [(2, b"early\n")]


async def test_a_finalizer_that_prints_while_a_line_is_taken_does_no_harm(
    heard: Heard, captured: capture.Capture
) -> None:
    output = captured.open(b"a", 1)
    with output._lock:
        output.write(capture.STDOUT, "again\n")
    captured.close(b"a")
    assert heard.lines(b"a") == ["again"]
