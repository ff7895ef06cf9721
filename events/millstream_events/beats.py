"""Beats: the moments of the monotonic clock at which everybody does what is due once a second.

All processes of a machine have the same clock, so they wake up together and sleep together,
which costs fewer wake-ups than timers that each began when their process did.
"""

from typing import Final

BEAT_NS: Final = 1_000_000_000
#: Timers may ring that much early by the clock.
_EARLY_NS: Final = 1_000_000


def until_beat_ns(monotonic_ns: int) -> int:
    """Return how long it is until the next beat: more than 0, and hardly more than `BEAT_NS`."""
    return BEAT_NS - monotonic_ns % BEAT_NS + _EARLY_NS
