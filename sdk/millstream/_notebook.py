"""The progress view of a notebook: one output of the cell that waits, changed in place."""

import asyncio
import concurrent.futures
from importlib import import_module
from typing import Any, Final, Protocol, cast

from millstream._cells import ipython
from millstream._client import Client
from millstream._html import run_html
from millstream._reader import follow_run
from millstream._syncify import background
from millstream_events.state import RunState

#: Between two changes of the view; a run that is over sooner shows none.
SHOWN_EVERY_S: Final = 0.5


class _Display(Protocol):
    """The handle of one output of a cell."""

    def update(self, obj: Any, raw: bool) -> None: ...


def shows_progress() -> bool:
    """Say whether this is a kernel, whose frontend can change an output in place."""
    return getattr(ipython(), "kernel", None) is not None


class Progress:
    """One output of a cell, changed as the run goes; in the thread of the cell."""

    def __init__(self, client: Client, run: str, name: str) -> None:
        self._client = client
        self._run = run
        self._name = name
        self._state: RunState | None = None
        self._shown_rev = -1
        self._handle: _Display | None = None
        self._following: concurrent.futures.Future[None] | None = None

    def wait(self, released: "concurrent.futures.Future[Any]") -> None:
        """Wait in the calling thread until `released` is done."""
        try:
            while not concurrent.futures.wait((released,), timeout=SHOWN_EVERY_S).done:
                self._show()
        finally:
            self._close(released)

    async def wait_aio(self, released: "concurrent.futures.Future[Any]") -> None:
        """Await `released` on any event loop."""
        future = asyncio.wrap_future(released)
        try:
            while not (await asyncio.wait((future,), timeout=SHOWN_EVERY_S))[0]:
                self._show()
        finally:
            self._close(released)

    async def _follow(self) -> None:
        async for step in follow_run(self._client.log, self._run):
            self._state = step.run

    async def _rendered(self) -> tuple[int, str, str] | None:
        # On the loop that changes the state.
        state = self._state
        if state is None or state.rev == self._shown_rev:
            return None
        text = f"<Run {self._name}: {state.shown_phase}>"
        return state.rev, text, run_html(state, self._name)

    def _show(self) -> None:
        if self._following is None:
            self._following = asyncio.run_coroutine_threadsafe(self._follow(), background.loop)
            return
        rendered = background.run(self._rendered(), name="Run.wait")
        if rendered is None:
            return
        self._shown_rev, text, html = rendered
        bundle = {"text/plain": text, "text/html": html}
        if self._handle is None:
            display = import_module("IPython.display").display
            self._handle = cast("_Display", display(bundle, raw=True, display_id=True))
        else:
            self._handle.update(bundle, raw=True)

    def _close(self, released: "concurrent.futures.Future[Any]") -> None:
        if self._following is None:
            return
        if self._handle is not None and released.done():
            # The log may tell a moment later what the leader has told.
            concurrent.futures.wait((self._following,), timeout=SHOWN_EVERY_S)
            self._show()
        self._following.cancel()
