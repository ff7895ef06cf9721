"""How many dispatches the leader may still send, and how far ahead of free slots that runs."""

from typing import Final

#: Most attempts that wait here for each slot, so that a slot of short tasks never runs dry.
PREFETCH_MAX: Final = 256
#: Tasks that run longer than this are never fetched ahead: they would bind to a busy agent.
PREFETCH_RUNTIME_NS_MAX: Final = 50_000_000
#: Attempts that may share a slot while they are this short and share a loop: one at a time
#: would leave the slot empty for a trip over the link between any two of them.
SHARERS_MAX: Final = 16
SHARING_RUNTIME_NS_MAX: Final = 2_000_000
#: The least that an attempt occupies a slot, whatever its runtime: the trip over the link.
_OCCUPIED_NS_MIN: Final = 50_000
#: Trip to the leader and back: an acknowledgement may wait for a disk, which is no trip.
_TRIP_NS_MAX: Final = 10_000_000
#: What tasks are taken to run for after they turned out not to be short.
_LONG_NS: Final = 2 * PREFETCH_RUNTIME_NS_MAX
#: Weight of the newest sample in the moving averages: 1 / 8.
_SAMPLE_SHIFT: Final = 3


class CreditLine:
    """Dispatches granted to the leader under the current generation."""

    def __init__(self) -> None:
        self.generation = 0
        #: Both count from 0 in each generation; `granted` never shrinks within one.
        self.granted = 0
        self.received = 0

    def open(self) -> None:
        """Begin a new generation: the only way in which credit can shrink."""
        self.generation += 1
        self.granted = 0
        self.received = 0

    def grow(self, free: int) -> bool:
        """Grant up to `free` dispatches beside those received; say whether that changed."""
        target = self.received + free
        if free <= 0 or target <= self.granted:
            return False
        self.granted = target
        return True


class Pace:
    """Moving averages of runtimes and of the trip to the leader, and the prefetch from them."""

    def __init__(self) -> None:
        #: How long attempts run that wait for nobody, and how long they hold a slot that do
        #: either; 0: nothing known yet.
        self._runtime_ns = 0
        self._occupied_ns = 0
        self._trip_ns = 1_000_000

    def ran(self, runtime_ns: int) -> None:
        """Take in how long an attempt ran that waited for nobody."""
        sample = max(runtime_ns, 0)
        self._runtime_ns = _moved(self._runtime_ns, sample)
        self._occupied_ns = _moved(self._occupied_ns, sample)

    def parked(self, held_ns: int) -> None:
        """Take in how long an attempt had held its slot when it first gave it back to wait.

        The trip over the link is in it, so it only ever makes slots look less taken; and one
        alone proves nothing, so an agent that knows nothing yet begins by expecting the worst.
        """
        known_ns = self._occupied_ns or _LONG_NS
        if held_ns < known_ns:
            self._occupied_ns = _moved(known_ns, held_ns)

    def answered(self, trip_ns: int) -> None:
        """Take in how long the leader took to acknowledge."""
        sample = min(trip_ns, _TRIP_NS_MAX)
        self._trip_ns += (sample - self._trip_ns) >> _SAMPLE_SHIFT

    def stop(self) -> None:
        """Forget that tasks were short: what was fetched ahead has waited too long."""
        self._runtime_ns = self._occupied_ns = _LONG_NS

    @property
    def sharers(self) -> int:
        """Attempts in one loop that one slot carries."""
        return SHARERS_MAX if 0 < self._runtime_ns < SHARING_RUNTIME_NS_MAX else 1

    @property
    def ahead(self) -> int:
        """Attempts to fetch ahead for each slot."""
        occupied_ns = self._occupied_ns
        if occupied_ns == 0 or occupied_ns > PREFETCH_RUNTIME_NS_MAX:
            return 0
        return min(PREFETCH_MAX, -(-self._trip_ns // max(occupied_ns, _OCCUPIED_NS_MIN)))


def _moved(average_ns: int, sample_ns: int) -> int:
    if average_ns == 0:
        return sample_ns + 1
    return average_ns + ((sample_ns - average_ns) >> _SAMPLE_SHIFT)
