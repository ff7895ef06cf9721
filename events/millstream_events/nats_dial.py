"""Opening a connection to NATS with nats-py, and taking its socket over.

All private names of nats-py that Millstream touches are in this file, which is why its minor
version is pinned.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from nats import errors as nats_errors
from nats.aio.client import Client

from millstream_events.errors import BusDeniedError, BusUnavailableError
from millstream_events.nats_protocol import MalformedStreamError, Message, Reader

#: Longest that one attempt to connect to one server may take, in whole seconds.
DIAL_DEADLINE_S: Final = 1

_logger: Final = logging.getLogger("millstream.nats")


class Socket(asyncio.Protocol):
    """One connection that nats-py has opened and that speaks to us from then on."""

    def __init__(
        self,
        client: Client,
        on_message: Callable[[bytes, Message], None],
        on_lost: Callable[["Socket", str], None],
    ) -> None:
        # Kept, because a StreamWriter that is collected closes its transport.
        self._client = client
        self._on_lost = on_lost
        self._reader = Reader(on_message, self._answer_ping, self._take_refusal)
        writer = _writer_of(client)
        assert writer is not None
        self.transport: asyncio.WriteTransport = writer.transport
        version = client.connected_server_version
        self.server_version = f"{version.major}.{version.minor}.{version.patch}"
        server_settings = getattr(client, "_server_info", {})
        #: As the server calls itself.
        self.server_name = str(server_settings.get("server_name", ""))
        self.payload_bytes_max = client.max_payload
        # nats-py has made these tasks but, without a turn of the loop since, not started them.
        for name in ("_reading_task", "_ping_interval_task", "_flusher_task"):
            task: object = getattr(client, name)
            assert isinstance(task, asyncio.Task), name
            task.cancel()
        self._unread = bytes(_unread_of(client))
        self.transport.set_protocol(self)

    def start(self) -> None:
        """Take what nats-py had read beyond its own part."""
        unread, self._unread = self._unread, b""
        if unread:
            self.data_received(unread)
        if self.transport.is_closing():
            # The loss was told to nats-py, not to us.
            asyncio.get_running_loop().call_soon(self.connection_lost, None)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the server (called by the transport)."""
        try:
            self._reader.feed(data)
        except MalformedStreamError as exc:
            self._on_lost(self, f"not NATS: {exc}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection (called by the transport)."""
        self._on_lost(self, "closed by the server" if exc is None else repr(exc))

    def _answer_ping(self) -> None:
        self.transport.write(b"PONG\r\n")

    def _take_refusal(self, text: str) -> None:
        # The server closes the connection itself after all refusals but those of permission.
        _logger.warning("nats_refused", extra={"why": text})


async def dial(
    servers: Sequence[str],
    *,
    token: str,
    name: str,
    on_message: Callable[[bytes, Message], None],
    on_lost: Callable[[Socket, str], None],
) -> Socket:
    """Return a connection to the first server that answers; call its `start` at once.

    Args:
        servers: Addresses, tried in order.
        token: Credential; empty for none.
        name: How the server's monitoring names this client.
        on_message: Called with subscription id and message.
        on_lost: Called at least once when the connection is of no use any more.

    Raises:
        BusDeniedError: A server refused the credential and no other answered.
        BusUnavailableError: No server answered.
    """
    denied: BusDeniedError | None = None
    why = "no server named"
    for server in servers:
        client = Client()
        try:
            async with asyncio.timeout(DIAL_DEADLINE_S):
                await client.connect(
                    server,
                    name=name,
                    token=token or None,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=DIAL_DEADLINE_S,
                    error_cb=_ignore_error,
                )
        except asyncio.CancelledError:
            _abort(client)
            raise
        except (OSError, nats_errors.Error, TimeoutError) as exc:
            _abort(client)
            if "authorization violation" in str(exc).lower():
                denied = BusDeniedError(server.rpartition("@")[2])
            else:
                why = str(exc) or type(exc).__name__
            continue
        return Socket(client, on_message, on_lost)
    if denied is not None:
        raise denied
    raise BusUnavailableError(",".join(server.rpartition("@")[2] for server in servers), why)


async def _ignore_error(_exc: Exception) -> None:
    """Keep nats-py from printing what is noticed and reported here."""


def _writer_of(client: Client) -> asyncio.StreamWriter | None:
    writer: object = getattr(getattr(client, "_transport", None), "_io_writer", None)
    return writer if isinstance(writer, asyncio.StreamWriter) else None


def _unread_of(client: Client) -> bytearray:
    reader: object = getattr(getattr(client, "_transport", None), "_io_reader", None)
    unread: object = getattr(reader, "_buffer", None)
    assert isinstance(unread, bytearray), reader
    return unread


def _abort(client: Client) -> None:
    """Close a connection that failed while it was made."""
    writer = _writer_of(client)
    if writer is not None:
        writer.transport.abort()
