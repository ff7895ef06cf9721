"""When a failed attempt comes back, and how long anything may take."""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias, cast

from millstream_events import values

#: Seconds, or a `timedelta`.
Duration: TypeAlias = timedelta | float


@dataclass(frozen=True)
class Backoff:
    """Waits `min(base * factor ** n, cap)` before retry `n`, counted from 0.

    Raises:
        ValueError: A negative time, a factor below 1, or one above 1 without a cap.
    """

    base: Duration
    factor: float = 1.0
    cap: Duration | None = None

    def __post_init__(self) -> None:
        duration_ms("Backoff.base", self.base)
        # Annotations bind nobody at run time.
        factor = cast("object", self.factor)
        if not isinstance(factor, int | float) or not math.isfinite(factor):
            raise ValueError(f"Backoff.factor must be a finite number, got {factor!r}")
        if factor < 1.0:
            raise ValueError(f"Backoff.factor must be >= 1.0, got {factor}")
        duration_ms("Backoff.cap", self.cap)
        if factor > 1.0 and self.cap is None:
            raise ValueError("Backoff.cap is required when factor > 1.0: waits would grow for ever")

    def compute_delay(self, n: int) -> timedelta:
        """Return the wait before retry `n`, counted from 0.

        Raises:
            ValueError: `n` is negative.
        """
        if n < 0:
            raise ValueError(f"Retry index n must be >= 0, got {n}")
        cap = None if self.cap is None else timedelta_of(self.cap)
        try:
            delay = timedelta_of(self.base) * self.factor**n
        except OverflowError:
            # Only a factor above 1 grows, and such a one has a cap.
            return cap or timedelta.max
        return delay if cap is None else min(delay, cap)

    def as_value(self) -> values.Backoff:
        """Return the form that travels in a policy."""
        return values.Backoff(
            duration_ms("Backoff.base", self.base),
            float(self.factor),
            duration_ms("Backoff.cap", self.cap),
        )


@dataclass(frozen=True)
class RetryStrategy:
    """How many attempts follow the first when user code fails, and how they are paced.

    A lost worker or node is not counted here. `NonRecoverableError` ends it at once.

    Raises:
        ValueError: `count` is not an int of 0 or more.
    """

    count: int
    #: None: at once.
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        # Annotations bind nobody at run time, and a float would only fail far away, in a worker.
        count = cast("object", self.count)
        if isinstance(count, bool) or not isinstance(count, int):
            raise ValueError(f"RetryStrategy.count must be an int (a retry count), got {count!r}")
        if count < 0:
            raise ValueError(f"RetryStrategy.count must be greater than or equal to 0, got {count}")


@dataclass(frozen=True)
class Timeout:
    """Upper bounds in seconds or as `timedelta`; None or 0 is no bound.

    Raises:
        ValueError: A negative time, or something that is no time at all.
    """

    #: RUNNING, for each attempt; ends the attempt, and a retry may follow.
    max_runtime: Duration | None = None
    #: QUEUED and WAITING_FOR_RESOURCES, for each attempt.
    max_queued_time: Duration | None = None
    #: From the request, over all attempts; ends the action whatever budget is left.
    deadline: Duration | None = None

    def __post_init__(self) -> None:
        duration_ms("Timeout.max_runtime", self.max_runtime)
        duration_ms("Timeout.max_queued_time", self.max_queued_time)
        duration_ms("Timeout.deadline", self.deadline)


RetryRequest: TypeAlias = int | RetryStrategy
TimeoutRequest: TypeAlias = Timeout | timedelta | float
#: Flyte's name for the same.
TimeoutType = TimeoutRequest


def retry_of(request: RetryRequest) -> RetryStrategy:
    """Return the strategy that `retries=` asks for; a bare number is a count.

    Raises:
        ValueError: Neither of them, or a negative count.
    """
    if isinstance(request, RetryStrategy):
        return request
    count = cast("object", request)
    if isinstance(count, bool) or not isinstance(count, int):
        raise ValueError(
            f"retries must be an int (a retry count) or a millstream.RetryStrategy, got {count!r}"
        )
    return RetryStrategy(count)


def timeout_of(request: TimeoutRequest) -> Timeout:
    """Return the bounds that `timeout=` asks for; a bare time is `max_runtime`."""
    return request if isinstance(request, Timeout) else Timeout(max_runtime=request)


def timedelta_of(value: Duration) -> timedelta:
    """Return a time given in seconds, or as a `timedelta`, as a `timedelta`."""
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


def duration_ms(name: str, value: Duration | None) -> int:
    """Return `value` in whole milliseconds, rounded up; None is 0.

    Rounding up matters: a tenth of a millisecond must not turn into 0, which is "no limit".
    """
    if value is None:
        return 0
    seconds = cast("object", value.total_seconds() if isinstance(value, timedelta) else value)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValueError(f"{name} must be seconds or a timedelta, not {value!r}")
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{name} must be >= 0, got {value}")
    return math.ceil(round(seconds * 1000, 6))
