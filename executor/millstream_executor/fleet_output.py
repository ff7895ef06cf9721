"""What C code and child processes of a worker print: the agent's end of two pipes.

The agent reads, not the worker: a worker whose loop is blocked by the very code that prints
would never empty the pipe, and that code would block for ever.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from millstream_events.ports import OutputLine
from millstream_executor.capture import LINE_CHARS_MAX, STDERR, STDOUT
from millstream_executor.link import Printed
from millstream_executor.native import widen_pipe

PIPE_BYTES: Final = 1024 * 1024
#: Most that is read of one pipe before others have their turn.
_READ_BYTES: Final = 256 * 1024
#: Attempts named as possible authors of a line.
CANDIDATES_MAX: Final = 64


class NativeOutput:
    """Reads descriptors 1 and 2 of one worker and says which attempt printed each line.

    Exact while one attempt is live, as in a worker for one; else the attempts that were live
    are candidates.
    """

    def __init__(self, post: Callable[[Printed], None], live: Mapping[bytes, int]) -> None:
        self._post = post
        #: Token -> number of the attempts in the worker; the owner keeps it up to date.
        self._live = live
        self._loop = asyncio.get_running_loop()
        self._ends: dict[int, int] = {}
        self._partial: dict[int, bytes] = {STDOUT: b"", STDERR: b""}
        #: For the worker: stdout and stderr.
        self.write_fds: list[int] = []
        for stream in (STDOUT, STDERR):
            read_fd, write_fd = os.pipe()
            os.set_blocking(read_fd, False)
            widen_pipe(read_fd, PIPE_BYTES)
            self._ends[stream] = read_fd
            self.write_fds.append(write_fd)
            self._loop.add_reader(read_fd, self._read, stream)

    def drain(self, *, finish: bool = False) -> None:
        """Post all that is in the pipes now; with `finish`, unfinished lines as well."""
        for stream in tuple(self._ends):
            while stream in self._ends and self._read(stream):
                pass
        if finish:
            for stream, rest in self._partial.items():
                if rest:
                    self._partial[stream] = b""
                    self._post_lines(stream, [rest])

    def close(self) -> None:
        """Post what is left and close the pipes."""
        self.drain(finish=True)
        for stream in tuple(self._ends):
            self._close(stream)

    def _read(self, stream: int) -> bool:
        """Take one chunk; False when there is none for now."""
        try:
            chunk = os.read(self._ends[stream], _READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._close(stream)
            return False
        *whole, rest = (self._partial[stream] + chunk).split(b"\n")
        while len(rest) >= LINE_CHARS_MAX:
            whole.append(rest[:LINE_CHARS_MAX])
            rest = rest[LINE_CHARS_MAX:]
        self._partial[stream] = rest
        if whole:
            self._post_lines(stream, whole)
        return True

    def _close(self, stream: int) -> None:
        fd = self._ends.pop(stream)
        self._loop.remove_reader(fd)
        os.close(fd)

    def _post_lines(self, stream: int, lines: list[bytes]) -> None:
        exact = len(self._live) == 1
        token, attempt = next(iter(self._live.items())) if exact else (b"", 0)
        now_ns = time.time_ns()
        self._post(
            Printed(
                token,
                tuple(
                    OutputLine(
                        now_ns,
                        stream,
                        line[start : start + LINE_CHARS_MAX].decode("utf-8", "replace"),
                        attempt=attempt,
                        shared=len(self._live) > 1,
                        native=True,
                    )
                    for line in lines
                    for start in range(0, len(line) or 1, LINE_CHARS_MAX)
                ),
                candidates=() if exact else tuple(self._live)[:CANDIDATES_MAX],
            )
        )
