"""What the leader says, packed: one message for each receiver and tick, split at the limit."""

from collections.abc import Sequence

from millstream_events import subjects
from millstream_events.codec import MESSAGE_BYTES_MAX, encode, split
from millstream_events.commands import LeaderAnnounced, Reply, ToClient
from millstream_events.endpoint import Endpoint
from millstream_events.errors import PayloadTooLargeError
from millstream_events.logs import get_logger
from millstream_events.ports import Bus
from millstream_events.reports import Order, ToAgent
from millstream_scheduler.book import Book

log = get_logger("scheduler")


class Speaker:
    """Packs and publishes; every message carries the epoch, so a receiver can drop a zombie's."""

    def __init__(self, book: Book, bus: Bus, endpoint: Endpoint) -> None:
        self._book = book
        self._bus = bus
        self._namespace = endpoint.namespace
        self._shard = endpoint.shard_name

    def announce(self, node: str) -> None:
        """Say who leads."""
        announced = LeaderAnnounced(self._book.state.epoch, node)
        subject = subjects.leader_subject(self._namespace, self._shard)
        self._publish(subject, encode(announced))

    def tell_agent(self, agent: str, orders: Sequence[Order], acked: int | None = None) -> None:
        """Send orders, and how far the agent's reports are durable."""
        seat = self._book.seats.get(agent)
        if seat is not None:
            if acked is not None:
                seat.acked = max(seat.acked, acked)
            pool, region = seat.hello.pool, seat.hello.region
            incarnation, upto = seat.incarnation, seat.acked
        elif agent in self._book.strangers:
            pool, region, incarnation = self._book.strangers.pop(agent)
            upto = 0
        else:
            return  # Given up since: it will introduce itself, and asks again then.
        subject = subjects.work_subject(self._namespace, region, pool, agent)
        epoch = self._book.state.epoch

        def pack(items: Sequence[Order]) -> bytes:
            return encode(ToAgent(epoch, incarnation, upto, tuple(items)))

        for _, message in split(orders, pack, limit_bytes=MESSAGE_BYTES_MAX):
            self._publish(subject, message)

    def tell_client(self, client: str, replies: Sequence[Reply]) -> None:
        """Send answers and releases."""
        who, _, proc = client.partition(".")
        subject = subjects.client_subject(self._namespace, who, proc)
        epoch = self._book.state.epoch

        def pack(items: Sequence[Reply]) -> bytes:
            return encode(ToClient(epoch, tuple(items)))

        for _, message in split(replies, pack, limit_bytes=MESSAGE_BYTES_MAX):
            self._publish(subject, message)

    def _publish(self, subject: str, message: bytes) -> None:
        try:
            self._bus.publish(subject, message)
        except PayloadTooLargeError as exc:
            log.error("message_too_large", subject=subject, size_bytes=exc.size_bytes)
