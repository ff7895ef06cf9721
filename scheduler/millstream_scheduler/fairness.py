"""Which ready action is next: a fair turn for every queue, project and run.

Deficit round robin with equal weights (Shreedhar and Varghese, SIGCOMM 1995): each key of a
level gets one unit per turn, an action costs one unit. The levels are queue (`QueueTurns`,
after its priority), project and run (`FairQueue`). Inside a run the order is: evicted parents,
then retries, then the deepest, then the oldest. Depth first bounds the number of parents that
are alive at once.

Actions that a parent requests one after the other wait as one extent, so that a million of them
take no more memory here than ten.
"""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

RANK_EVICTED: Final = 0
RANK_RETRY: Final = 1
RANK_NEW: Final = 2
#: Picks after which the places of the lower priorities come again.
_ROUND: Final = 16
#: Pick of a round -> which level of those that wait it belongs to.
_PLACES: Final = {7: 2, 15: 1}
#: Queues whose turns are remembered; names come from users.
_REMEMBERED_MAX: Final = 1_024


class Ready(NamedTuple):
    """A ready action."""

    rank: int
    #: Negative, so that the deepest comes first.
    minus_depth: int
    ordinal: int
    #: Attempt that is ready: an entry of another attempt is stale.
    attempt: int
    run: str


class _Extent(msgspec.Struct, order=True, gc=False):
    """Ready actions of one run that differ in their ordinal alone, which has no gaps.

    Compares in the order in which a run's actions are picked.
    """

    rank: int
    minus_depth: int
    first: int
    attempt: int
    #: One past the last.
    end: int

    def at(self, ordinal: int, run: str) -> Ready:
        """Return one of them."""
        return Ready(self.rank, self.minus_depth, ordinal, self.attempt, run)


class _Line:
    """Ready actions of one run, as a heap of extents."""

    __slots__ = ("_heap", "_newest", "_run")

    def __init__(self, run: str) -> None:
        self._run = run
        self._heap: list[_Extent] = []
        #: The extent that was pushed last, while it is in the heap.
        self._newest: _Extent | None = None

    def __len__(self) -> int:
        return sum(extent.end - extent.first for extent in self._heap)

    def __bool__(self) -> bool:
        return bool(self._heap)

    def push(self, path: Sequence[str], ready: Ready) -> None:
        assert not path, path
        rank, minus_depth, ordinal, attempt, _ = ready
        newest = self._newest
        if (
            newest is not None
            and newest.end == ordinal
            and (newest.rank, newest.minus_depth, newest.attempt) == (rank, minus_depth, attempt)
        ):
            newest.end += 1
            return
        self._newest = _Extent(rank, minus_depth, ordinal, attempt, ordinal + 1)
        heapq.heappush(self._heap, self._newest)

    def pop(self) -> Ready:
        extent = self._heap[0]
        ready = extent.at(extent.first, self._run)
        extent.first += 1
        if extent.first < extent.end:
            heapq.heapreplace(self._heap, extent)  # It may be another one's turn now.
        else:
            heapq.heappop(self._heap)
            if extent is self._newest:
                self._newest = None
        return ready

    def peek(self, entries_max: int) -> list[Ready]:
        found: list[Ready] = []
        for extent in self._heap:
            room = entries_max - len(found)
            ordinals = range(extent.first, min(extent.end, extent.first + room))
            found.extend(extent.at(ordinal, self._run) for ordinal in ordinals)
        return found


class _Ring:
    """Keys that take turns; each leads to a line or to another ring."""

    __slots__ = ("_order", "members")

    def __init__(self) -> None:
        self._order: deque[str] = deque()
        self.members: dict[str, _Ring | _Line] = {}

    def __len__(self) -> int:
        return sum(map(len, self.members.values()))

    def __bool__(self) -> bool:
        return bool(self.members)

    def push(self, path: Sequence[str], ready: Ready) -> None:
        key, rest = path[0], path[1:]
        member = self.members.get(key)
        if member is None:
            member = self.members[key] = _Ring() if rest else _Line(key)
            self._order.append(key)
        member.push(rest, ready)

    def pop(self) -> Ready:
        key = self._order[0]
        member = self.members[key]
        ready = member.pop()
        if member:
            self._order.rotate(-1)
        else:
            self._order.popleft()
            del self.members[key]
        return ready

    def drop(self, key: str) -> int:
        """Take a key out of the turn, and return how many actions waited under it."""
        member = self.members.pop(key, None)
        if member is None:
            return 0
        self._order.remove(key)
        return len(member)


class QueueTurns:
    """Which queue is served next: the highest priority first, and in turn among equals.

    A lower priority gets one pick in `_ROUND` while there is a higher one, so that it is late
    but never starved.
    """

    def __init__(self) -> None:
        #: Every queue that was served, whose turn was the longest ago first.
        self._order: dict[str, None] = {}
        self._picks = 0

    def pick(self, waiting: Mapping[str, int]) -> str:
        """Return one of the waiting queues, which are given with their priorities."""
        self._picks += 1
        levels = sorted(set(waiting.values()), reverse=True)
        # The second level in one place of the round, the third in another.
        place = _PLACES.get(self._picks % _ROUND, 0)
        level = levels[place] if place < len(levels) else levels[0]
        equals = [name for name, priority in waiting.items() if priority == level]
        # A queue that was never served comes first.
        fresh = [name for name in equals if name not in self._order]
        chosen = fresh[0] if fresh else next(name for name in self._order if name in equals)
        self._order.pop(chosen, None)
        self._order[chosen] = None
        if len(self._order) > _REMEMBERED_MAX:
            del self._order[next(iter(self._order))]
        return chosen


class FairQueue:
    """Ready actions of one placement class."""

    def __init__(self) -> None:
        self._ring = _Ring()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, project: str, ready: Ready) -> None:
        """Add a ready action under its project and run."""
        self._ring.push((project, ready.run), ready)
        self._count += 1

    def pop(self) -> Ready:
        """Remove and return the next one. The queue must not be empty."""
        self._count -= 1
        return self._ring.pop()

    def drop(self, project: str, run: str) -> None:
        """Remove all that waits of a run."""
        members = self._ring.members.get(project)
        if isinstance(members, _Ring):
            self._count -= members.drop(run)
            if not members:
                self._ring.drop(project)

    def peek(self, entries_max: int) -> list[Ready]:
        """Return up to `entries_max` entries in no particular order; nothing is removed."""
        found: list[Ready] = []
        rings: list[_Ring] = [self._ring]
        while rings and len(found) < entries_max:
            for member in rings.pop().members.values():
                if isinstance(member, _Ring):
                    rings.append(member)
                else:
                    found.extend(member.peek(entries_max - len(found)))
        return found
