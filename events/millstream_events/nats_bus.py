"""`Bus` on core NATS."""

from collections.abc import Callable

from millstream_events.codec import MESSAGE_BYTES_MAX
from millstream_events.errors import PayloadTooLargeError
from millstream_events.nats_wire import NatsWire


class NatsBus:
    """`Bus` over one wire."""

    def __init__(self, wire: NatsWire) -> None:
        self._wire = wire
        #: Messages that were not sent: disconnected, or too many bytes waited for the socket.
        self.dropped = 0

    @property
    def connected(self) -> bool:
        """Whether a message published now would reach the server, as far as is known."""
        return self._wire.connected

    def publish(self, subject: str, payload: bytes) -> None:
        """Send now, or drop and count; see `Bus.publish`."""
        if len(payload) > MESSAGE_BYTES_MAX:
            raise PayloadTooLargeError(subject, len(payload), MESSAGE_BYTES_MAX)
        if not self._wire.publish(subject, payload):
            self.dropped += 1

    def flush(self) -> None:
        """Write what was published in this turn now."""
        self._wire.flush()

    def subscribe(self, subject: str, sink: Callable[[str, bytes], None]) -> Callable[[], None]:
        """Call `sink` for each message; see `Bus.subscribe`."""
        return self._wire.tap(subject, lambda message: sink(message.subject, message.payload))

    def on_reconnect(self, sink: Callable[[], None]) -> Callable[[], None]:
        """Call `sink` after each re-established connection; see `Bus.on_reconnect`."""
        return self._wire.on_reconnect(sink)
