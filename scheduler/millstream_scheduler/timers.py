"""What is due when. Entries are never removed: a due one that no longer fits is ignored.

The wheel holds no truth: after a takeover it is rebuilt from the folded state.
"""

import heapq

import msgspec


class Due(msgspec.Struct, frozen=True, order=True):
    """One entry."""

    at_ms: int
    #: backoff, timer, condition, webhook, queued, runtime, deadline, run-deadline, grace,
    #: trigger or answer.
    what: str
    #: Id of the run; of a trigger its key (`deployed.trigger_key`).
    run: str
    action: int = 0
    #: Attempt that it is about; an entry of an earlier attempt is stale.
    attempt: int = 0


class Timers:
    """A heap of `Due`, earliest first."""

    def __init__(self) -> None:
        self._heap: list[Due] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due: Due) -> None:
        """Remember `due`."""
        heapq.heappush(self._heap, due)

    def take(self, now_ms: int, *, entries_max: int) -> list[Due]:
        """Remove and return up to `entries_max` entries that are due, earliest first."""
        taken: list[Due] = []
        while self._heap and self._heap[0].at_ms <= now_ms and len(taken) < entries_max:
            taken.append(heapq.heappop(self._heap))
        return taken

    @property
    def next_ms(self) -> int | None:
        """When the earliest entry is due, Unix ms."""
        return self._heap[0].at_ms if self._heap else None
