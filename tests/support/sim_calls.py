"""What the calls of a simulated shard ask for: all of it follows from the call's id."""

import hashlib
import random
from collections import deque
from collections.abc import Iterable

from millstream_events.ids import ROOT_ID
from millstream_events.values import (
    CACHE_MODES,
    CACHE_SERIALIZED,
    Backoff,
    Blob,
    Inline,
    Items,
    Policy,
    Value,
)


def cache_of(call: bytes, *, heavy: bool) -> tuple[bytes, int]:
    """Return key and mode of a call: few keys, so that calls of all depths and runs meet."""
    pick = random.Random(call)
    if pick.random() < (0.1 if heavy else 0.6):
        return b"", 0
    mode = CACHE_SERIALIZED if heavy and pick.random() < 0.8 else pick.choice(CACHE_MODES)
    return b"key%d" % pick.randint(0, 1 if heavy else 3), mode


def policy_of(call: bytes) -> Policy:
    """Return a policy that follows from the call."""
    pick = call[1] % 6
    return Policy(
        retries=3,
        backoff=Backoff(5 if pick == 0 else 0),
        system_retries=50,
        runtime_max_ms=200 if pick == 1 else 0,
        deadline_ms=3000 if pick == 2 else 0,
        queued_max_ms=2000 if pick == 3 else 0,
        idempotent=pick != 4,
        grace_ms=50,
        queue="default" if call[3] % 3 == 0 else "",
        cache_max_age_ms=40 if call[4] % 4 == 0 else 0,
    )


def items_of(call: bytes) -> int:
    """Return of how many items a called action is; 0: it is no map. Never of a root."""
    return 1 + call[3] % 4 if call != ROOT_ID and call[2] % 4 == 0 else 0


def ended_items(call: bytes) -> Items | None:
    """Return how the items of a called action end: some fail, some are left to the caller."""
    total = items_of(call)
    failed = min(total, call[4] % 3)
    return Items(total, (total - failed) // 2, failed) if total else None


def output_of(action: bytes) -> Value:
    """Return the output of an action: some lie in the blob store."""
    if action[-1] % 3:
        return Inline("x", action)
    return Blob(hashlib.sha256(action).digest(), 9000, "x")


class SimBlobs:
    """A blob store that may have lost anything, and takes its time to say so."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._asked: deque[bytes] = deque()

    def ask(self, digests: Iterable[bytes]) -> None:
        """Take what the leader wants to know."""
        self._asked.extend(sorted(digests))

    def answers(self) -> tuple[tuple[bytes, bool], ...]:
        """Return what is known by now."""
        count = self._rng.randint(0, len(self._asked))
        return tuple((self._asked.popleft(), self._rng.random() < 0.7) for _ in range(count))

    def crash(self) -> None:
        """Forget what a leader asked that is no more."""
        self._asked.clear()
