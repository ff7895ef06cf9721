"""Looks at a server from outside: which ports are free, and whether it answers."""

import asyncio
import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from millstream._app_context import LOOPBACK

_LINE_BYTES_MAX: Final = 4096
#: From here on an answer says that the server itself is at fault.
_AT_FAULT: Final = 500


def is_free(port: int) -> bool:
    """Say whether nobody listens on a port of this machine's loopback."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family) as looking:
            # As servers do: a port that a dead server has just left is free.
            looking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                looking.bind((host, port))
            except OSError as exc:
                if family == socket.AF_INET or isinstance(exc, PermissionError):
                    return False
    return True


class PortClaims:
    """Ports that one keeper has for its servers: no other keeper of this user takes them.

    Whoever only looks whether a port is free may find it taken a moment later, by another
    replica of the same app, say; and would then take the other's answers for its own server's.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"millstream-ports-{os.getuid()}"
        self._held: dict[int, int] = {}

    def take(self, wanted: Iterable[int]) -> int:
        """Return the first of `wanted` that is free and nobody else's, or else any such port."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for port in wanted:
            if port and is_free(port) and self._claim(port):
                return port
        while True:
            port = free_port()
            if self._claim(port):
                return port

    def _claim(self, port: int) -> bool:
        if port in self._held:
            return True
        fd = os.open(self._folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Goes with the process, however that ends.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._held[port] = fd
        return True

    def close(self) -> None:
        """Let go of all ports."""
        while self._held:
            os.close(self._held.popitem()[1])


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket(socket.AF_INET) as looking:
        looking.bind(("127.0.0.1", 0))
        port: int = looking.getsockname()[1]
        return port


async def probe(port: int, path: str, timeout_s: float) -> str:
    """Ask a server of this machine how it is.

    Args:
        port: Where it listens.
        path: To GET; empty: connecting is enough.
        timeout_s: For the whole look.

    Returns:
        Empty when it answers with a status below 500, else what is wrong.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                return await _ask(reader, writer, path, port) if path else ""
            finally:
                writer.close()
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except (OSError, ValueError) as exc:
        return f"no answer: {exc}"


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, port: int
) -> str:
    head = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    line = (await reader.readline())[:_LINE_BYTES_MAX]
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return f"no HTTP answer but {line!r}"
    return "" if int(words[1]) < _AT_FAULT else f"GET {path} gives {int(words[1])}"
