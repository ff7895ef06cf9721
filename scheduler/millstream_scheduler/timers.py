"""What is due when. Neither of the two holds any truth: after a takeover they begin anew.

`Timers` never removes an entry: a due one that no longer fits is ignored. `Waits` are for what
mostly ends before it is due, which must then not wake the leader for nothing.
"""

import heapq
from typing import Generic, TypeVar

import msgspec

_T = TypeVar("_T")


class Due(msgspec.Struct, frozen=True, order=True):
    """One entry."""

    at_ms: int
    #: backoff, timer, condition, webhook, queued, runtime, deadline, run-deadline, grace or
    #: trigger.
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


class Waits(Generic[_T]):
    """What waits under a key until somebody takes it, for the same time each.

    Args:
        wait_ms: After this long it is due.
    """

    def __init__(self, wait_ms: int) -> None:
        self._wait_ms = wait_ms
        #: When each is due, and what it is; in the order in which they are due. To be read only.
        self.waiting: dict[str, tuple[int, _T]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self.waiting

    def add(self, key: str, item: _T, now_ms: int) -> None:
        """Let `item` wait."""
        self.waiting[key] = now_ms + self._wait_ms, item

    def take(self, key: str) -> _T | None:
        """Remove and return what waits under `key`."""
        kept = self.waiting.pop(key, None)
        return None if kept is None else kept[1]

    def take_due(self, now_ms: int) -> dict[str, _T]:
        """Remove and return what has waited for long enough."""
        due: dict[str, _T] = {}
        for key, (due_ms, item) in self.waiting.items():
            if due_ms > now_ms:
                break
            due[key] = item
        for key in due:
            del self.waiting[key]
        return due

    @property
    def next_ms(self) -> int | None:
        """When the first of them is due, Unix ms."""
        for due_ms, _ in self.waiting.values():
            return due_ms
        return None
