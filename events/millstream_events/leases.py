"""`LeaseStore` on a JetStream key-value bucket, by compare-and-set on its revision."""

from typing import Final

from millstream_events.errors import BusUnavailableError, LogUnavailableError, StaleWriterError
from millstream_events.nats_protocol import encode_headers
from millstream_events.nats_streams import (
    WRONG_LAST_SEQUENCE,
    StoredMessage,
    ensure_stream,
    get_message,
    read_ack,
)
from millstream_events.nats_wire import NatsWire
from millstream_events.ports import READ_DEADLINE_S
from millstream_events.subjects import LEASE_BUCKET

_STREAM: Final = f"KV_{LEASE_BUCKET}"
_EXPECTED_REVISION: Final = "Nats-Expected-Last-Subject-Sequence"
#: How the key-value convention of NATS marks a removed key.
_OPERATION: Final = "KV-Operation"
_REMOVED: Final = b"KV-Operation: DEL"


async def ensure_leases(wire: NatsWire, *, replicas: int) -> None:
    """Make the bucket unless it is there.

    Raises:
        ConfigError: It is there with settings that cannot be used.
        LogUnavailableError: No answer in time.
    """
    await ensure_stream(
        wire,
        _STREAM,
        {
            "subjects": [f"$KV.{LEASE_BUCKET}.>"],
            "storage": "file",
            "discard": "new",
            "num_replicas": replicas,
            "max_msgs_per_subject": 1,
            "allow_direct": True,
            "deny_delete": True,
            "allow_rollup_hdrs": True,
        },
    )


class NatsLeases:
    """`LeaseStore` over one wire. Reads go to the leader: a replica may be behind."""

    def __init__(self, wire: NatsWire) -> None:
        self._wire = wire

    async def read(self, key: str) -> tuple[bytes, int] | None:
        """Return value and revision; see `LeaseStore.read`."""
        stored = await self._stored(key)
        if stored is None or _REMOVED in stored.headers:
            return None
        return stored.entry.payload, stored.entry.seq

    async def write(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value at `revision`; see `LeaseStore.write`."""
        written = await self._put(key, value, revision)
        if written is None and revision == 0:
            # A removed key still has a revision, that of its marker.
            stored = await self._stored(key)
            if stored is not None and _REMOVED in stored.headers:
                written = await self._put(key, value, stored.entry.seq)
        if written is None:
            raise StaleWriterError(key, revision)
        return written

    async def delete(self, key: str, revision: int) -> None:
        """Remove the value at `revision`; see `LeaseStore.delete`."""
        await self._put(key, b"", revision, remove=True)

    async def _stored(self, key: str) -> StoredMessage | None:
        return await get_message(self._wire, _STREAM, last_of=_subject(key))

    async def _put(
        self, key: str, value: bytes, revision: int, *, remove: bool = False
    ) -> int | None:
        """Return the new revision, or None if the key is at another one than `revision`."""
        headers = {_EXPECTED_REVISION: str(revision)}
        if remove:
            headers[_OPERATION] = "DEL"
        try:
            message = await self._wire.request(
                _subject(key), value, deadline_s=READ_DEADLINE_S, head=encode_headers(headers)
            )
        except BusUnavailableError as exc:
            raise LogUnavailableError(_STREAM, exc.why) from exc
        ack = read_ack(message)
        if isinstance(ack, str):
            raise LogUnavailableError(_STREAM, ack)
        if ack.error is None:
            return ack.seq
        if ack.error.err_code in WRONG_LAST_SEQUENCE:
            return None
        raise LogUnavailableError(_STREAM, ack.error.description)


def _subject(key: str) -> str:
    return f"$KV.{LEASE_BUCKET}.{key}"
