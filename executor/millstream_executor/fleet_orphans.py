"""Processes that tasks left behind.

A worker adopts what its tasks detach from themselves, and the agent adopts it when the worker
ends: so a child of the agent that it did not start is a dead worker's, even with a session and a
group of its own, which no `killpg` reaches.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from millstream_executor.native import IS_LINUX, children_of, session_of

#: Ending an orphan gives us its children, so we look again, this many times at most.
_ROUNDS_MAX: Final = 20
_ROUND_S: Final = 0.005


class Orphans:
    """Finds and ends what workers left behind. Linux only; does nothing elsewhere."""

    def __init__(self, mark: str, known: Callable[[], Collection[int]]) -> None:
        """Make it.

        Args:
            mark: `NAME=text` that is in the environment of every descendant of the template.
            known: Our own children, which somebody waits for.
        """
        self._mark = mark.encode()
        self._known = known
        self._pid = os.getpid()
        self._session = session_of(self._pid)
        self._others = frozenset(children_of(self._pid)) if IS_LINUX else frozenset[int]()
        self._sweeping: asyncio.Task[None] | None = None
        self._again = False

    async def sweep(self) -> None:
        """End every orphan that there is now, and wait for it."""
        if not IS_LINUX:
            return
        self._again = True
        while self._again or self._sweeping is not None:
            if self._sweeping is None:
                self._again = False
                self._sweeping = asyncio.create_task(self._sweep())
            running = self._sweeping
            await asyncio.shield(running)
            if self._sweeping is running:
                self._sweeping = None

    async def _sweep(self) -> None:
        for _ in range(_ROUNDS_MAX):
            if not self._round():
                return
            await asyncio.sleep(_ROUND_S)

    def _round(self) -> bool:
        """End and reap what is there; False: nothing was."""
        found = False
        known = {*self._known(), *self._others}
        for pid in children_of(self._pid):
            if pid in known or session_of(pid) in (self._session, 0):
                continue
            environment = _environment(pid)
            # A zombie shows no environment. A living child without the mark was started by
            # somebody else in this process.
            if environment and self._mark not in environment:
                continue
            found = True
            try:
                if environment:
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            except (ProcessLookupError, ChildProcessError):
                continue
        return found


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
