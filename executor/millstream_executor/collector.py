"""How often Python's cyclic garbage collector looks while many attempts and calls are open.

Thousands of calls or attempts that wait are objects that live, and no garbage: to look at them
again and again took a seventh of a worker's time in a fan-out of 10,000, and a full collection
beside 5,000 waiting attempts 120 ms. Else it looks as often as ever: code that keeps large arrays
in cycles counts on that.
"""

import gc
from typing import Final

#: Open attempts and calls of a process from which on the collector looks less often.
MANY_OPEN: Final = 200
#: New objects until it looks then.
YOUNG_MAX: Final = 10_000


class Collector:
    """Counts what is open in this process, and sets the collector's thresholds by that."""

    def __init__(self) -> None:
        self._open = 0
        #: What was set before, and what we have set; None: nothing of ours is set.
        self._before: tuple[int, int, int] | None = None
        self._ours = (0, 0, 0)

    def opened(self) -> None:
        """Count one more open attempt or call."""
        self._open += 1
        if self._open >= MANY_OPEN and self._before is None:
            young, middle, old = self._before = gc.get_threshold()
            if young:  # 0: somebody has turned it off.
                gc.set_threshold(max(young, YOUNG_MAX), middle, old)
            self._ours = gc.get_threshold()

    def closed(self) -> None:
        """Count one less."""
        self._open -= 1
        if self._before is not None and self._open <= MANY_OPEN // 2:
            if gc.get_threshold() == self._ours:  # Else a task has set its own meanwhile.
                gc.set_threshold(*self._before)
            self._before = None


#: The one of this process.
collector: Final = Collector()
