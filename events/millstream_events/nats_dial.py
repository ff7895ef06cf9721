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
        # What came before `start`; None from then on.
        self._unread: bytes | None = bytes(_unread_of(client))
        self.transport.set_protocol(self)

    def start(self) -> None:
        """Take what has come so far, beginning with what nats-py read beyond its own part."""
        unread, self._unread = self._unread, None
        if unread:
            self.data_received(unread)
        if self.transport.is_closing():
            # The loss was told to nats-py, not to us.
            asyncio.get_running_loop().call_soon(self.connection_lost, None)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the server (called by the transport)."""
        if self._unread is not None:
            self._unread += data
            return
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
        opening = asyncio.create_task(_open(client, server, token, name, on_message, on_lost))
        try:
            # Not `asyncio.timeout`: nats-py waits with `asyncio.wait_for`, which on Python 3.11
            # drops a cancellation that arrives together with a refused connection.
            await asyncio.wait({opening}, timeout=DIAL_DEADLINE_S)
        except asyncio.CancelledError:
            _give_up(opening)
            raise
        if not opening.done():
            _give_up(opening)
            why = "no answer"
            continue
        try:
            return opening.result()
        except (OSError, nats_errors.Error, TimeoutError) as exc:
            if "authorization violation" in str(exc).lower():
                denied = BusDeniedError(server.rpartition("@")[2])
            else:
                why = str(exc) or type(exc).__name__
    if denied is not None:
        raise denied
    raise BusUnavailableError(",".join(server.rpartition("@")[2] for server in servers), why)


async def _open(
    client: Client,
    server: str,
    token: str,
    name: str,
    on_message: Callable[[bytes, Message], None],
    on_lost: Callable[[Socket, str], None],
) -> Socket:
    """Connect to one server; a connection that failed while it was made is closed."""
    try:
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
    except BaseException:
        writer = _writer_of(client)
        if writer is not None:
            writer.transport.abort()
        raise
    return Socket(client, on_message, on_lost)


def _give_up(opening: asyncio.Task[Socket]) -> None:
    """Wait no longer; a connection that comes nevertheless is closed."""

    def discard(opened: asyncio.Task[Socket]) -> None:
        if not opened.cancelled() and opened.exception() is None:
            opened.result().transport.abort()

    opening.add_done_callback(discard)
    opening.cancel()


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
