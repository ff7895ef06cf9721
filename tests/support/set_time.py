"""A loop with a time of its own, which passes in waits alone and takes none to pass."""

import asyncio
import selectors
from typing import Any


class SkippingSelector(selectors.DefaultSelector):
    """Skips the wait for a timer; only for what no timer ends it waits as others do."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if not timeout or timeout < 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self.skipped_s += timeout
        return ready


class SetTimeLoop(asyncio.SelectorEventLoop):
    """Its time is the same in each run of a test, however busy the machine is.

    For code that takes the time from the loop and from a `Clock` that reads it here, and that
    waits for nothing outside the loop: a thread's result would come at any time.
    """

    def __init__(self) -> None:
        self._skipping = SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.skipped_s


class LoopClock:
    """The `Clock` port on the time of the loop that runs, with a wall that may be set."""

    def __init__(self) -> None:
        self.offset_ns = 0

    def now_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self.monotonic_ns() + self.offset_ns

    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)
