"""The word that a very short run has been accepted, which its release says as well.

While runs end within about a millisecond, a client that watches its run is told both things at
once: the release alone. Telling it twice would wake it, on the CPUs that its task needs just
then. A run that takes longer after all is answered when `LATE_MS` have passed.
"""

from typing import Final

from millstream_events.commands import Accepted
from millstream_scheduler.timers import Waits

#: Longest that an answer waits for the release; by the clock's grain it may be 1 ms less.
LATE_MS: Final = 2
#: Runs count as very short while their moving average is below this.
SHORT_NS: Final = 2_000_000
#: What one long run weighs at most, so that the average finds back within a few short ones.
_SAMPLE_NS_MAX: Final = 16_000_000
#: Weight of the newest sample: 1 / 8.
_SAMPLE_SHIFT: Final = 3


class LateAnswers:
    """Answers that have not been given, and how long runs take."""

    def __init__(self) -> None:
        self._average_ns = _SAMPLE_NS_MAX
        #: By run: the client, and what it is to be told.
        self.kept: Waits[tuple[str, Accepted]] = Waits(LATE_MS)

    def keep(self, client: str, answer: Accepted, now_ms: int) -> bool:
        """Keep the answer to a watched submission; False: it must be given at once."""
        if self._average_ns >= SHORT_NS:
            return False
        self.kept.add(answer.run, (client, answer), now_ms)
        return True

    def ended(self, run: str, took_ns: int) -> None:
        """Take in that the release of `run` is on its way."""
        self.kept.take(run)
        sample = min(max(took_ns, 0), _SAMPLE_NS_MAX)
        self._average_ns += (sample - self._average_ns) >> _SAMPLE_SHIFT
