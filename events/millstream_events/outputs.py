"""`OutputStore` on a JetStream stream that forgets after seven days."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from millstream_events.codec import MALFORMED, MESSAGE_BYTES_MAX
from millstream_events.errors import LogFullError, LogUnavailableError
from millstream_events.nats_protocol import Message
from millstream_events.nats_streams import Settings, ensure_stream, read_batch
from millstream_events.nats_wire import NatsWire
from millstream_events.ports import OutputBatch
from millstream_events.subjects import output_stream, output_subject

KEEP_NS: Final = 7 * 24 * 3600 * 1_000_000_000
#: Bytes of the stream; the oldest go first. The server reserves them, so a store that is too
#: small for the first gets the next.
KEEP_BYTES_MAX: Final = tuple(mib * 1024 * 1024 for mib in (4096, 1024, 256, 64, 16, 4, 1))
#: Batches that one read returns.
READ_MAX: Final = 1000
#: A follower reads again after this time without news.
RESYNC_INTERVAL_S: Final = 1.0
#: Between hearing of a batch and its being stored.
STORING_S: Final = 0.01
#: A follower reads this often after news, every `STORING_S`, before it waits again.
READS_AFTER_NEWS: Final = 3

_decoder: Final = msgspec.msgpack.Decoder(OutputBatch)


async def ensure_outputs(wire: NatsWire, ns: str, *, replicas: int) -> None:
    """Make the stream unless it is there.

    Raises:
        ConfigError: It is there with settings that cannot be used.
        LogFullError: No room even for the least.
        LogUnavailableError: No answer in time.
    """
    for bytes_max in KEEP_BYTES_MAX:
        settings: Settings = {
            "subjects": [output_subject(ns, "*", "*", "*")],
            "storage": "file",
            "discard": "old",
            "num_replicas": replicas,
            "max_age": KEEP_NS,
            "max_bytes": bytes_max,
            "allow_direct": True,
        }
        try:
            await ensure_stream(wire, output_stream(), settings)
            break
        except LogFullError:
            if bytes_max == KEEP_BYTES_MAX[-1]:
                raise


class JetStreamOutputs:
    """`OutputStore` over one wire."""

    def __init__(self, wire: NatsWire, ns: str) -> None:
        self._wire = wire
        self._ns = ns
        #: Batches that were not sent: disconnected, or too large.
        self.dropped = 0

    def put(self, pool: str, batch: OutputBatch) -> None:
        """Send without waiting; see `OutputStore.put`."""
        payload = msgspec.msgpack.encode(batch)
        subject = output_subject(self._ns, pool, batch.run, str(batch.action))
        if len(payload) > MESSAGE_BYTES_MAX or not self._wire.publish(subject, payload):
            self.dropped += 1

    async def read(
        self, run: str, *, action: int | None = None, after_seq: int = 0
    ) -> Sequence[tuple[int, OutputBatch]]:
        """Return batches with their sequence; see `OutputStore.read`.

        Raises:
            LogUnavailableError: No answer in time.
        """
        while True:
            entries = await read_batch(
                self._wire,
                output_stream(),
                after_seq=after_seq,
                records_max=READ_MAX,
                subject=self._subject(run, action),
            )
            batches: list[tuple[int, OutputBatch]] = []
            for entry in entries:
                try:
                    batches.append((entry.seq, _decoder.decode(entry.payload)))
                except MALFORMED:
                    continue
            if batches or not entries:
                return batches
            # A thousand unreadable messages in a row are not the end.
            after_seq = entries[-1].seq

    async def follow(
        self, run: str, *, action: int | None = None, after_seq: int = 0
    ) -> AsyncIterator[tuple[int, OutputBatch]]:
        """Yield what is there, then what comes; see `OutputStore.follow`."""
        news = asyncio.Event()

        def hear(_message: Message) -> None:
            news.set()

        end = self._wire.tap(self._subject(run, action), hear)
        end_news = self._wire.on_reconnect(news.set)
        reads = 1
        try:
            while True:
                try:
                    batches = await self.read(run, action=action, after_seq=after_seq)
                except LogUnavailableError:
                    batches = ()
                for seq, batch in batches:
                    after_seq = seq
                    yield seq, batch
                if batches:
                    continue
                reads -= 1
                if reads > 0:
                    await asyncio.sleep(STORING_S)
                    continue
                try:
                    async with asyncio.timeout(RESYNC_INTERVAL_S):
                        await news.wait()
                    reads = READS_AFTER_NEWS
                except TimeoutError:
                    reads = 1
                news.clear()
        finally:
            end()
            end_news()

    def _subject(self, run: str, action: int | None) -> str:
        return output_subject(self._ns, "*", run, "*" if action is None else str(action))
