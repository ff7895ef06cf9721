"""Which ready action is next: a fair turn for every queue, project and run.

Deficit round robin with equal weights (Shreedhar and Varghese, SIGCOMM 1995): each key of a
level gets one unit per turn, an action costs one unit. The levels are queue (`QueueTurns`,
after its priority), project and run (`FairQueue`). Inside a run the order is: evicted parents,
then retries, then the deepest, then the oldest. Depth first bounds the number of parents that
are alive at once.
"""

import heapq
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

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
    """A ready action; compares in the order in which a run's actions are picked."""

    rank: int
    #: Negative, so that the deepest comes first.
    minus_depth: int
    ordinal: int
    #: Attempt that is ready: an entry of another attempt is stale.
    attempt: int
    run: str


class _Ring:
    """Keys that take turns; each leads to a heap or to another ring."""

    __slots__ = ("_order", "members")

    def __init__(self) -> None:
        self._order: deque[str] = deque()
        self.members: dict[str, _Ring | list[Ready]] = {}

    def push(self, path: tuple[str, ...], ready: Ready) -> None:
        key, rest = path[0], path[1:]
        member = self.members.get(key)
        if member is None:
            member = self.members[key] = _Ring() if rest else []
            self._order.append(key)
        if isinstance(member, _Ring):
            member.push(rest, ready)
        else:
            heapq.heappush(member, ready)

    def pop(self) -> Ready:
        key = self._order[0]
        member = self.members[key]
        if isinstance(member, _Ring):
            ready = member.pop()
            empty = not member.members
        else:
            ready = heapq.heappop(member)
            empty = not member
        if empty:
            self._order.popleft()
            del self.members[key]
        else:
            self._order.rotate(-1)
        return ready


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

    def peek(self, entries_max: int) -> list[Ready]:
        """Return up to `entries_max` entries in no particular order; nothing is removed."""
        found: list[Ready] = []
        rings: list[_Ring] = [self._ring]
        while rings and len(found) < entries_max:
            for member in rings.pop().members.values():
                if isinstance(member, _Ring):
                    rings.append(member)
                else:
                    found.extend(member[: entries_max - len(found)])
        return found
