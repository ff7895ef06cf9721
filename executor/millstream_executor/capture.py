"""What tasks print, sorted by the attempt that printed it.

`sys.stdout` and `sys.stderr` are routers: a context variable says which attempt the writing
code belongs to, across awaits, callbacks, and threads (which copy the context of whoever
started them, or handed them the job, while capture is active). Lines are kept apart by attempt,
stream *and* thread, since threads of one attempt would tear each other's lines.

What C code, child processes and `sys.__stdout__` write goes to descriptors 1 and 2, which are
pipes that the agent reads (`fleet_output`): only the worker is known there.

The routers are installed by the template, before any user code is imported, so that logging
set up at import time writes to them as well; until a worker activates them they pass through.
`contextlib.redirect_stdout` replaces the router for the whole process, not for one attempt.
"""

import asyncio
import contextvars
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, Final, TextIO, TypeVar, cast

from millstream_events.ports import OutputLine
from millstream_executor.link import Printed

#: A longer line is cut into several.
LINE_CHARS_MAX: Final = 64 * 1024
#: Lines leave at the latest this long after the first of them, or when so many have gathered.
FLUSH_EVERY_S: Final = 0.05
FLUSH_LINES: Final = 64
#: Lines of one attempt that wait for the loop to come round; further ones are dropped, counted.
PENDING_LINES_MAX: Final = 10_000
#: Characters of one attempt that wait likewise.
PENDING_CHARS_MAX: Final = 8 * 1024 * 1024

STDOUT: Final = 1
STDERR: Final = 2

_T = TypeVar("_T")


class AttemptOutput:
    """The lines of one attempt (or, with an empty token, of the worker) on their way out."""

    def __init__(self, token: bytes, attempt: int) -> None:
        self.token = token
        self._attempt = attempt
        #: Guards all below: any thread may print.
        # Reentrant: a finalizer may print while a line is being taken.
        self._lock = threading.RLock()
        self._partial: dict[tuple[int, int], str] = {}
        self._lines: list[OutputLine] = []
        self._chars = 0
        self._dropped = 0

    def write(self, stream: int, text: str) -> int:
        """Take `text`, and return how many complete lines wait now."""
        key = (stream, threading.get_ident())
        with self._lock:
            text = self._partial.pop(key, "") + text
            *whole, rest = text.split("\n")
            for line in whole:
                self._keep(stream, line)
            while len(rest) >= LINE_CHARS_MAX:
                self._keep(stream, rest[:LINE_CHARS_MAX])
                rest = rest[LINE_CHARS_MAX:]
            if rest:
                self._partial[key] = rest
            return len(self._lines)

    def take(self, *, finish: bool = False) -> Printed | None:
        """Return what waits and forget it; with `finish`, unfinished lines as well."""
        with self._lock:
            if finish:
                for (stream, _), rest in self._partial.items():
                    self._keep(stream, rest)
                self._partial.clear()
            if not self._lines and not self._dropped:
                return None
            printed = Printed(self.token, tuple(self._lines), self._dropped)
            self._lines = []
            self._chars = self._dropped = 0
            return printed

    def _keep(self, stream: int, line: str) -> None:
        for start in range(0, len(line) or 1, LINE_CHARS_MAX):
            part = line[start : start + LINE_CHARS_MAX]
            if len(self._lines) >= PENDING_LINES_MAX or self._chars >= PENDING_CHARS_MAX:
                self._dropped += 1
                continue
            self._chars += len(part)
            self._lines.append(OutputLine(time.time_ns(), stream, part, attempt=self._attempt))


#: Whose output the current code writes; None: the worker's.
_owner: ContextVar[AttemptOutput | None] = ContextVar("millstream_output", default=None)


class _ByteSide(io.RawIOBase):
    """The `.buffer` of a router: bytes in, text on."""

    def __init__(self, router: "Router") -> None:
        super().__init__()
        self._router = router

    def writable(self) -> bool:
        return True

    def write(self, chunk: Any) -> int:
        content = bytes(chunk)
        self._router.write(content.decode("utf-8", "replace"))
        return len(content)

    def fileno(self) -> int:
        return self._router.fileno()


class Router(io.TextIOBase):
    """Stands in for `sys.stdout` or `sys.stderr`."""

    def __init__(self, stream: int) -> None:
        super().__init__()
        self._stream = stream
        self._bytes = _ByteSide(self)
        #: None: not active, write through.
        self.capture: Capture | None = None

    @property
    def buffer(self) -> io.RawIOBase:
        """Where code that writes bytes writes to."""
        return self._bytes

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has it as a plain attribute
        """UTF-8, whatever the locale says."""
        return "utf-8"

    def writable(self) -> bool:
        """Say yes."""
        return True

    def isatty(self) -> bool:
        """Say no: what is written goes to a log."""
        return False

    def fileno(self) -> int:
        """Return descriptor 1 or 2, for code that hands it to a child process."""
        return self._stream

    def write(self, text: str, /) -> int:
        """Route `text` to the attempt that the calling code belongs to."""
        capture = self.capture
        if capture is None:
            os.write(self._stream, text.encode("utf-8", "replace"))
        else:
            capture.write(self._stream, text)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]  # as TextIO
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing: complete lines leave by themselves."""


class Capture:
    """Collects the output of a worker's attempts, and posts it from the worker's loop."""

    def __init__(self, post: Callable[[Printed], None], loop: asyncio.AbstractEventLoop) -> None:
        self._post = post
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._own = AttemptOutput(b"", 0)
        self._live: dict[bytes, AttemptOutput] = {b"": self._own}
        #: The next flush: nothing planned, planned for later, or asked for at once.
        self._timer: asyncio.TimerHandle | None = None
        self._asked = False

    def open(self, token: bytes, attempt: int) -> AttemptOutput:
        """Begin to collect for an attempt; `enter` says from where on."""
        output = AttemptOutput(token, attempt)
        self._live[token] = output
        return output

    def close(self, token: bytes) -> None:
        """Post all that the attempt printed, and stop collecting for it.

        Code that outlives its attempt goes on printing to nobody.
        """
        output = self._live.pop(token, None)
        if output is not None:
            self._post_of(output, finish=True)

    def finish(self) -> None:
        """Post everything, the worker's own lines included."""
        for output in self._live.values():
            self._post_of(output, finish=True)

    def write(self, stream: int, text: str) -> None:
        """Take what some code of this process writes. From any thread."""
        output = _owner.get() or self._own
        waiting = output.write(stream, text)
        if waiting == 0:
            return
        urgent = waiting >= FLUSH_LINES
        if threading.get_ident() == self._loop_thread:
            if urgent:
                self._post_of(output)
            else:
                self._plan()
        elif not self._asked:
            self._asked = True
            try:
                self._loop.call_soon_threadsafe(self._flush if urgent else self._plan)
            except RuntimeError:
                return  # The loop is closed: the worker ends, and `finish` has run.

    def _plan(self) -> None:
        self._asked = False
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_EVERY_S, self._flush)

    def _flush(self) -> None:
        self._asked = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for output in tuple(self._live.values()):
            self._post_of(output)

    def _post_of(self, output: AttemptOutput, *, finish: bool = False) -> None:
        printed = output.take(finish=finish)
        if printed is not None:
            self._post(printed)


def enter(output: AttemptOutput) -> None:
    """Make what the current context prints, and what it starts, the output's."""
    _owner.set(output)


def install() -> None:
    """Put routers in place of `sys.stdout` and `sys.stderr`; they write through for now."""
    if not isinstance(sys.stdout, Router):
        sys.stdout = cast(TextIO, Router(STDOUT))
    if not isinstance(sys.stderr, Router):
        sys.stderr = cast(TextIO, Router(STDERR))


def activate(capture: Capture) -> None:
    """Let the routers, and every thread started from now on, serve `capture`."""
    install()
    for router in (sys.stdout, sys.stderr):
        assert isinstance(router, Router), router
        router.capture = capture
    _patch_threads()


def _patch_threads() -> None:
    """Have threads begin in the context of whoever started them or handed them a job.

    Python does so by itself from 3.14 on (free-threaded builds); before, a new thread begins in
    an empty context, and neither its output nor its calls would belong to an attempt.
    """
    start = threading.Thread.start
    submit = ThreadPoolExecutor.submit

    def start_in_context(self: threading.Thread) -> None:
        if _owner.get() is not None:
            context = contextvars.copy_context()
            run = self.run

            def run_in_context() -> None:
                context.run(run)

            self.run = run_in_context  # type: ignore[method-assign]  # for this one thread
        start(self)

    def submit_in_context(
        self: ThreadPoolExecutor, fn: Callable[..., _T], /, *args: Any, **kwargs: Any
    ) -> Future[_T]:
        if _owner.get() is None:
            return submit(self, fn, *args, **kwargs)
        return submit(self, contextvars.copy_context().run, fn, *args, **kwargs)

    threading.Thread.start = start_in_context  # type: ignore[method-assign]  # on purpose
    ThreadPoolExecutor.submit = submit_in_context  # type: ignore[assignment,method-assign]  # on purpose
