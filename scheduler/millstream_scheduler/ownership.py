"""Who tries to lead: a lease that is renewed, watched, and given up in time.

For liveness only. A lease that has not changed for `lease_ms` of a standby's own monotonic
clock may be claimed by compare-and-set; a leader that could not renew for `lease_giveup_ms`
stops by itself. No wall clock is compared, and a mistake costs a takeover, never a wrong
event: the log's fence decides (design: architecture.md 3.2). The lease is read by polling,
because a watch can stay blind for 16 s after a server restart.

Whoever seeks the lease asks for its renewal with each look at it, and the holder renews when it
is asked: with nobody there to take over, a quiet shard writes next to nothing. A question that is
lost costs nothing, since three more follow within `lease_ms`.
"""

import asyncio
import contextlib
from typing import Final

import msgspec

from millstream_events.codec import MALFORMED
from millstream_events.errors import LogUnavailableError, StaleWriterError
from millstream_events.logs import get_logger
from millstream_events.ports import Bus, Clock, LeaseStore
from millstream_events.subjects import lease_key, lease_question_subject
from millstream_scheduler.config import SchedulerConfig

log = get_logger("scheduler")

_ENCODER: Final = msgspec.msgpack.Encoder()


class LeaseValue(msgspec.Struct, frozen=True, array_like=True):
    """What the holder writes; it changes with each renewal, which is what a standby watches."""

    node: str
    nonce: str
    renewals: int


_DECODER: Final = msgspec.msgpack.Decoder(LeaseValue)


class Lease:
    """The shard's lease, as one process holds or seeks it."""

    def __init__(
        self, store: LeaseStore, bus: Bus, clock: Clock, config: SchedulerConfig, *, nonce: str
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._config = config
        self._key = lease_key(config.endpoint.shard_name)
        self._question = lease_question_subject(
            config.endpoint.namespace, config.endpoint.shard_name
        )
        self._nonce = nonce
        #: Somebody has asked since the last renewal, or may have without being heard.
        self._asked = asyncio.Event()
        self._revision = 0
        self._renewals = 0

    async def acquire(self) -> None:
        """Return once this process holds the lease."""
        seen_revision = -1
        seen_ns = 0
        while True:
            self._bus.publish(self._question, b"")
            try:
                found = await self._store.read(self._key)
                revision = 0 if found is None else found[1]
                if found is not None and self._wrote(found[0]):
                    self._revision = revision  # The answer to our claim was lost.
                    return
                now_ns = self._clock.monotonic_ns()
                if revision != seen_revision:
                    seen_revision, seen_ns = revision, now_ns
                waited_ms = (now_ns - seen_ns) // 1_000_000
                if revision == 0 or waited_ms >= self._config.lease_ms:
                    self._revision = await self._store.write(self._key, self._value(), revision)
                    return
            except StaleWriterError:
                seen_revision = -1  # Somebody else was faster.
            except LogUnavailableError as exc:
                log.warning("lease_unreachable", why=str(exc))
            await asyncio.sleep(self._config.lease_renew_ms / 1000)

    async def keep(self) -> str:
        """Renew until that is refused or has failed for too long; return why it ended."""
        self._asked.set()  # Who asked before this was not heard.
        ends = [
            self._bus.subscribe(self._question, lambda _subject, _payload: self._asked.set()),
            self._bus.on_reconnect(self._asked.set),
        ]
        try:
            return await self._renew()
        finally:
            for end in ends:
                end()

    async def _renew(self) -> str:
        renewed_ns = self._clock.monotonic_ns()
        unclear = False
        while True:
            await asyncio.sleep(self._config.lease_renew_ms / 1000)
            if not unclear:
                renewed_ns = await self._rest(renewed_ns)
            left_s = self._config.lease_giveup_ms / 1000 - self._since_s(renewed_ns)
            # One try after a stall of our own: while the revision is ours nobody has claimed.
            left_s = max(left_s, self._config.lease_renew_ms / 1000)
            started_ns = self._clock.monotonic_ns()
            try:
                async with asyncio.timeout(left_s):
                    self._revision = await self._store.write(
                        self._key, self._value(), self._revision
                    )
                renewed_ns = started_ns
                unclear = False
            except StaleWriterError:
                if not unclear or not await self._is_ours():
                    return "another process holds the lease"
                unclear = False
            except (LogUnavailableError, TimeoutError) as exc:
                unclear = True
                log.warning("lease_unreachable", why=str(exc) or "no answer in time")
                if self._since_s(renewed_ns) * 1000 >= self._config.lease_giveup_ms:
                    return "the lease could not be renewed in time"

    async def _rest(self, renewed_ns: int) -> int:
        """Sleep while nobody asks; return since when the lease counts as not renewed."""
        rest_s = (self._config.lease_rest_ms - self._config.lease_renew_ms) / 1000
        if not self._asked.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest_s):
                    await self._asked.wait()
            # Not to have renewed what nobody asked about is no failure.
            renewed_ns = self._clock.monotonic_ns()
        self._asked.clear()
        return renewed_ns

    async def resign(self) -> None:
        """Give the lease up, so that a standby need not wait."""
        try:
            await self._store.delete(self._key, self._revision)
        except LogUnavailableError as exc:
            log.warning("lease_unreachable", why=str(exc))

    async def _is_ours(self) -> bool:
        """Look whether a renewal without an answer was stored, and take up its revision."""
        try:
            async with asyncio.timeout(self._config.lease_renew_ms / 1000):
                found = await self._store.read(self._key)
        except (LogUnavailableError, TimeoutError):
            return False
        if found is None or not self._wrote(found[0]):
            return False
        self._revision = found[1]
        return True

    def _wrote(self, value: bytes) -> bool:
        try:
            return _DECODER.decode(value).nonce == self._nonce
        except MALFORMED:
            return False

    def _value(self) -> bytes:
        self._renewals += 1
        return _ENCODER.encode(LeaseValue(self._config.node, self._nonce, self._renewals))

    def _since_s(self, then_ns: int) -> float:
        return (self._clock.monotonic_ns() - then_ns) / 1e9
