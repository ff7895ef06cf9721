"""How often Python's cyclic garbage collector looks while many attempts and calls are open.

Thousands of calls or attempts that wait are objects that live, and no garbage: to look at them
again and again took a seventh of a worker's time in a fan-out of 10,000, and a full collection
beside 5,000 waiting attempts 120 ms. With a million calls that wait a full one takes seconds, so
these become rarer until they take a small share of the time. Else it looks as often as ever: code
that keeps large arrays in cycles counts on that.
"""

import gc
import time
from typing import Any, Final

#: Open attempts and calls of a process from which on the collector looks less often.
MANY_OPEN: Final = 200
#: New objects until it looks then.
YOUNG_MAX: Final = 10_000
#: Share of the time that full collections may take while many are open.
FULL_SHARE_MAX: Final = 0.05
#: The rarest that they become: one in so many of the middle generation.
OLD_MAX: Final = 1_280


def rarer(old: int, *, took_s: float, since_s: float) -> int:
    """Return the threshold of full collections that follows from the last one.

    Args:
        old: The present threshold: so many collections of the middle generation.
        took_s: How long the last full collection took.
        since_s: How long the process had gone on since the one before.
    """
    if took_s > FULL_SHARE_MAX * since_s:
        return max(old, min(2 * old, OLD_MAX))
    return old


class Collector:
    """Counts what is open in this process, and sets the collector's thresholds by that."""

    def __init__(self) -> None:
        self._open = 0
        #: What was set before, and what we have set; None: nothing of ours is set.
        self._before: tuple[int, int, int] | None = None
        self._ours = (0, 0, 0)
        #: When the last full collection began, and when it had ended.
        self._began_s = self._ended_s = 0.0

    def opened(self) -> None:
        """Count one more open attempt or call."""
        self._open += 1
        if self._open >= MANY_OPEN and self._before is None:
            young, middle, old = self._before = gc.get_threshold()
            if young:  # 0: somebody has turned it off.
                gc.set_threshold(max(young, YOUNG_MAX), middle, old)
            self._ours = gc.get_threshold()
            self._ended_s = time.perf_counter()
            gc.callbacks.append(self._collected)

    def closed(self) -> None:
        """Count one less."""
        self._open -= 1
        if self._before is not None and self._open <= MANY_OPEN // 2:
            gc.callbacks.remove(self._collected)
            if gc.get_threshold() == self._ours:  # Else a task has set its own meanwhile.
                gc.set_threshold(*self._before)
            self._before = None

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        """Hear of a collection that begins or has ended."""
        if info["generation"] < 2 or gc.get_threshold() != self._ours:
            return
        now_s = time.perf_counter()
        if phase == "start":
            self._began_s = now_s
            return
        young, middle, old = self._ours
        since_s, took_s = self._began_s - self._ended_s, now_s - self._began_s
        self._ended_s = now_s
        gc.set_threshold(young, middle, rarer(old, took_s=took_s, since_s=since_s))
        self._ours = gc.get_threshold()


#: The one of this process.
collector: Final = Collector()
