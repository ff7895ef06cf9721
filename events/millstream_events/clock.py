"""The clock of real processes; everything that decides gets its times as arguments."""

import time


class SystemClock:
    """A `ports.Clock` over the operating system's clocks."""

    def now_ns(self) -> int:
        """Return Unix time in ns."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Return a time that never goes back, in ns."""
        return time.monotonic_ns()
