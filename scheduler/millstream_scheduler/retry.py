"""When a failed attempt comes back, and out of which budget (design: architecture.md 1.5)."""

import contextlib
import hashlib
from typing import Final

import msgspec

from millstream_events.state import ActionState
from millstream_events.values import SYSTEM_KINDS, Backoff, ErrorRecord

#: Spread of a wait: up to this share is added, by a hash, so that map items that failed
#: together do not come back together, and a replay computes the same instant.
_JITTER: Final = 0.25
_EXPONENT_MAX: Final = 64
_DELAY_MS_MAX: Final = 7 * 24 * 3600 * 1000


class Retry(msgspec.Struct, frozen=True):
    """The next attempt of an action."""

    attempt: int
    #: 0: at once.
    delay_ms: int
    #: user or system.
    budget: str


def next_attempt(run: str, action: ActionState, error: ErrorRecord) -> Retry | None:
    """Return the attempt that follows a failure already counted in `action`, or None.

    Args:
        run: Part of the jitter's hash.
        action: In state FAILING: `user_failures` and `system_failures` include this failure.
        error: What ended the attempt; its kind says which budget pays.
    """
    if not error.retryable:
        return None
    rules = action.rules
    if error.kind in SYSTEM_KINDS:
        if action.system_failures > rules.system_retries:
            return None
        return Retry(action.attempt + 1, 0, "system")
    if action.user_failures > rules.retries:
        return None
    delay_ms = backoff_ms(
        rules.backoff,
        failures=action.user_failures,
        spread=spread_of(run, action.id, action.attempt),
    )
    return Retry(action.attempt + 1, delay_ms, "user")


def backoff_ms(backoff: Backoff, *, failures: int, spread: float) -> int:
    """Return the wait after the `failures`-th failure: `min(cap, first * factor ** n)`, jittered.

    Args:
        backoff: The task's own policy.
        failures: >= 1.
        spread: In [0, 1): share of the jitter that is added.

    Returns:
        Milliseconds, at most one week; 0 when the policy names no wait.
    """
    assert failures >= 1, failures
    if backoff.first_ms <= 0:
        return 0
    longest = min(backoff.cap_ms, _DELAY_MS_MAX) if backoff.cap_ms > 0 else _DELAY_MS_MAX
    delay = float(longest)
    with contextlib.suppress(OverflowError):  # Beyond every float: the longest wait.
        delay = backoff.first_ms * backoff.factor ** min(failures - 1, _EXPONENT_MAX)
    if not 0 <= delay <= longest:  # No number at all fails this as well.
        delay = float(longest)
    return min(int(delay * (1 + _JITTER * spread)), _DELAY_MS_MAX)


def spread_of(run: str, action_id: bytes, attempt: int) -> float:
    """Return a number in [0, 1) that depends on nothing but the attempt's name."""
    seed = run.encode() + action_id + attempt.to_bytes(4, "big")
    return int.from_bytes(hashlib.blake2b(seed, digest_size=4).digest()) / 2**32
