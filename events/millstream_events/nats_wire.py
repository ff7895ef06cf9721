"""One supervised connection to NATS, on which every adapter of this package speaks.

nats-py connects and authenticates; then this file takes its socket over, because on a hot path
nats-py costs twice the latency, can go deaf, and keeps messages that were published while
disconnected for later (design: tried.md 9). What is done here instead:

- Messages reach plain functions in the turn of the event loop in which they arrive.
- Publishing is a write to the socket's buffer. While disconnected it is refused. A client that
  lost its connection is thrown away with all that it had not sent, and a new one is dialled:
  there is one way back from every failure, and nothing stale is ever sent.
- Replies come to one inbox of ours, as calls. When the connection is lost, every call that
  still waits gets None at once.
- Once in a beat a message to ourselves shows that the connection works in both directions; a
  half-open one is noticed within `BEAT_NS` + 2 * `PULSE_WAIT_S`.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import count
from typing import Final, TypeAlias

from millstream_events.beats import until_beat_ns
from millstream_events.codec import MESSAGE_BYTES_MAX
from millstream_events.endpoint import Endpoint
from millstream_events.errors import (
    BusDeniedError,
    BusUnavailableError,
    ClusterNotReachedError,
    ConfigError,
)
from millstream_events.nats_dial import Socket, dial
from millstream_events.nats_protocol import Message

MessageSink: TypeAlias = Callable[[Message], None]
#: Takes None, at last, when the connection is lost.
ReplySink: TypeAlias = Callable[[Message | None], None]

#: A proof of life may take twice this long: two short waits, because after a pause of our own
#: process the first one is over before the answer that lies ready could be read.
PULSE_WAIT_S: Final = 0.75
#: Pause before the first and the later attempts to connect again.
REDIAL_FIRST_S: Final = 0.02
REDIAL_MAX_S: Final = 0.25
#: Bytes that may wait for the socket; above it messages are dropped as if disconnected.
UNSENT_BYTES_MAX: Final = 64 * 1024 * 1024
#: Longest that `close` waits for what was published before.
CLOSE_DEADLINE_S: Final = 1.0

_BAD_SUBJECT: Final = re.compile(r"[\s\x00]")
# Plain `logging`: this runs in users' processes too, which stay silent unless they want logs.
_logger: Final = logging.getLogger("millstream.nats")
logging.getLogger("millstream").addHandler(logging.NullHandler())


class _Tap:
    """One subscription, as it must be made again on each new connection."""

    __slots__ = ("sid", "sink", "subject")

    def __init__(self, sid: bytes, subject: str, sink: MessageSink) -> None:
        self.sid = sid
        self.subject = subject
        self.sink = sink

    @property
    def command(self) -> bytes:
        return b"SUB %b %b\r\n" % (self.subject.encode(), self.sid)


class NatsWire:
    """A connection that comes back by itself until it is closed."""

    def __init__(self, endpoint: Endpoint, *, name: str) -> None:
        self._endpoint = endpoint
        self._name = name
        self._servers = [url.strip() for url in endpoint.url.split(",") if url.strip()]
        self._socket: Socket | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._closed = False
        self._lost = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sids = count(1)
        self._taps: dict[bytes, _Tap] = {}
        self._back_sinks: list[Callable[[], None]] = []
        self._closed_sinks: list[Callable[[], None]] = []
        self._inbox = f"_INBOX.{os.urandom(10).hex()}."
        self._reply_ids = count(1)
        #: Sink of each reply that is still awaited, oldest first.
        self._awaited: dict[str, ReplySink] = {}
        #: Published in this turn of the loop and not written yet.
        self._corked: list[bytes] = []
        self._corked_bytes = 0
        #: Exceptions that callers' sinks have raised.
        self.sink_failures = 0
        #: Times that the connection was lost.
        self.losses = 0
        self.server_version = ""
        #: As the server calls itself.
        self.server_name = ""
        self.tap(self._inbox + "*", self._take_reply)

    @property
    def url(self) -> str:
        """Servers, without the credential."""
        return ",".join(server.rpartition("@")[2] for server in self._servers)

    @property
    def connected(self) -> bool:
        """Whether a message published now goes out, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    async def open(self, deadline_s: float) -> None:
        """Connect for the first time and keep connected from then on.

        Raises:
            BusDeniedError: A server is there and refuses the credential.
            ClusterNotReachedError: Nobody answered as a NATS server within `deadline_s`.
            ConfigError: The server takes smaller messages than Millstream sends.
        """
        why = "no answer"
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    try:
                        socket = await self._dial()
                        break
                    except BusUnavailableError as exc:
                        why = exc.why
                        await asyncio.sleep(REDIAL_FIRST_S)
        except TimeoutError as exc:
            raise ClusterNotReachedError(self.url, why) from exc
        if socket.payload_bytes_max <= MESSAGE_BYTES_MAX:
            socket.transport.abort()
            limit = f"the server takes {socket.payload_bytes_max} bytes; 1 MiB is needed"
            raise ConfigError("max_payload", limit)
        self._install(socket)
        self._start(self._redial_for_ever(), "nats redial")
        self._start(self._prove_life(), "nats pulse")

    async def close(self) -> None:
        """Send what was published, then end the connection for good. May be called twice."""
        if self._closed:
            return
        if self.connected:
            try:
                # All that was published before this has reached the server when it comes back.
                await self.request("", deadline_s=CLOSE_DEADLINE_S)
            except BusUnavailableError as exc:
                _logger.debug("close_without_flush", extra={"why": exc.why})
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        socket, self._socket, self._transport = self._socket, None, None
        if socket is not None:
            socket.transport.abort()
        self._fail_awaited()
        for sink in self._closed_sinks:
            self._guarded(sink)

    def on_reconnect(self, sink: Callable[[], None]) -> Callable[[], None]:
        """Call `sink` after each connection but the first, once subscriptions are made again.

        Returns:
            The call that ends it.
        """
        self._back_sinks.append(sink)
        return lambda: self._back_sinks.remove(sink)

    def on_closed(self, sink: Callable[[], None]) -> None:
        """Call `sink` once `close` is done; nothing else ends a wire for good."""
        self._closed_sinks.append(sink)

    def publish(self, subject: str, payload: bytes, *, reply: str = "", head: bytes = b"") -> bool:
        """Send one message and return whether it went to the socket's buffer.

        Args:
            subject: Where to.
            payload: With `head` at most `codec.MESSAGE_BYTES_MAX` and 4 KiB.
            reply: Where the answer goes.
            head: Headers, by `nats_protocol.encode_headers`.

        Raises:
            ValueError: The subject is none.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if transport.get_write_buffer_size() + self._corked_bytes > UNSENT_BYTES_MAX:
            return False
        if not subject or _BAD_SUBJECT.search(subject):
            raise ValueError(f"not a subject: {subject!r}")
        to = f"{subject} {reply}".encode()
        if head:
            line = b"HPUB %b %d %d\r\n" % (to, len(head), len(head) + len(payload))
            self._cork(b"%b%b%b\r\n" % (line, head, payload))
        else:
            self._cork(b"PUB %b %d\r\n%b\r\n" % (to, len(payload), payload))
        return True

    def _cork(self, command: bytes) -> None:
        """Gather what one turn of the loop publishes into one write.

        A write to the socket wakes the server at once, and on a busy machine it runs before we
        go on: the second message of a turn would wait for the server's work on the first.
        """
        if not self._corked:
            asyncio.get_running_loop().call_soon(self.flush)
        self._corked.append(command)
        self._corked_bytes += len(command)

    def flush(self) -> None:
        """Write what this turn has published; it happens by itself at the turn's end."""
        commands, self._corked, self._corked_bytes = self._corked, [], 0
        if commands and self._transport is not None:
            self._transport.write(b"".join(commands))

    def tap(self, subject: str, sink: MessageSink) -> Callable[[], None]:
        """Call `sink` for each message on `subject`, over reconnects; return what ends it.

        Raises:
            ValueError: The subject is none.
        """
        if not subject or _BAD_SUBJECT.search(subject):
            raise ValueError(f"not a subject: {subject!r}")
        sid = b"%d" % next(self._sids)
        tap = _Tap(sid, subject, sink)
        self._taps[sid] = tap
        if self._transport is not None:
            self._transport.write(tap.command)

        def end() -> None:
            if self._taps.pop(sid, None) is not None and self._transport is not None:
                self._transport.write(b"UNSUB %b\r\n" % sid)

        return end

    def await_reply(self, sink: ReplySink, reply: str = "") -> str:
        """Return a subject of which every message goes to `sink`, until `forget`.

        `sink` gets None, once and at last, when the connection is lost; replies that were
        under way then will not come.

        Args:
            sink: Takes the replies.
            reply: The subject, one on which `hear_replies` listens; empty: a new one of the inbox.
        """
        reply = reply or self._inbox + str(next(self._reply_ids))
        self._awaited[reply] = sink
        return reply

    def hear_replies(self, subject: str) -> None:
        """Listen for replies on another subject than the inbox: one that others hear as well."""
        self.tap(subject, self._take_reply)

    def forget(self, reply: str) -> None:
        """Wait no longer for `reply`."""
        self._awaited.pop(reply, None)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        deadline_s: float,
        head: bytes = b"",
    ) -> Message:
        """Send one message and return the first reply, which may be an empty 503.

        Args:
            subject: Where to; empty: back to us, which shows that all before has arrived.
            payload: What to send.
            deadline_s: Longest wait for the reply.
            head: Encoded headers.

        Raises:
            BusUnavailableError: Not connected, or the connection was lost, or no reply within
                `deadline_s`.
        """
        answered: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()

        def settle(message: Message | None) -> None:
            if not answered.done():
                answered.set_result(message)

        reply = self.await_reply(settle)
        try:
            if not self.publish(subject or reply, payload, reply=reply, head=head):
                raise BusUnavailableError(self.url, "not connected")
            async with asyncio.timeout(deadline_s):
                message = await answered
        except TimeoutError as exc:
            raise BusUnavailableError(self.url, f"no answer within {deadline_s:g} s") from exc
        finally:
            self.forget(reply)
        if message is None:
            raise BusUnavailableError(self.url, "connection lost")
        return message

    # -- connecting

    async def _dial(self) -> Socket:
        return await dial(
            self._servers,
            token=self._endpoint.token,
            name=self._name,
            on_message=self._take_message,
            on_lost=self._drop,
        )

    def _install(self, socket: Socket) -> None:
        """Use `socket` from now on, with all subscriptions."""
        self.server_version, self.server_name = socket.server_version, socket.server_name
        self._socket, self._transport = socket, socket.transport
        for tap in self._taps.values():
            socket.transport.write(tap.command)
        socket.start()

    def _take_message(self, sid: bytes, message: Message) -> None:
        """Pass a message on. What a sink raises must not end the reading of the rest."""
        tap = self._taps.get(sid)
        if tap is None:
            return
        try:
            tap.sink(message)
        except Exception:  # the boundary to callers' code
            self.sink_failures += 1
            _logger.exception("sink_failed", extra={"subject": message.subject})

    def _drop(self, socket: Socket, why: str) -> None:
        """Throw `socket` away if it is the one in use."""
        if self._socket is not socket:
            return
        self._socket = self._transport = None
        self._corked, self._corked_bytes = [], 0  # Nothing stale is ever sent.
        socket.transport.abort()
        self.losses += 1
        _logger.warning("nats_lost", extra={"client": self._name, "why": why})
        self._lost.set()
        self._fail_awaited()

    async def _redial_for_ever(self) -> None:
        while True:
            await self._lost.wait()
            self._lost.clear()
            pause_s = REDIAL_FIRST_S
            while True:
                try:
                    socket = await self._dial()
                    break
                except (BusUnavailableError, BusDeniedError) as exc:
                    _logger.debug(
                        "nats_redial_failed", extra={"client": self._name, "why": str(exc)}
                    )
                    await asyncio.sleep(pause_s)
                    pause_s = min(REDIAL_MAX_S, pause_s * 1.5)
            self._install(socket)
            _logger.warning("nats_back", extra={"client": self._name})
            for sink in tuple(self._back_sinks):
                self._guarded(sink)

    async def _prove_life(self) -> None:
        """Drop a connection on which a message to ourselves does not come back."""
        while True:
            await asyncio.sleep(until_beat_ns(time.monotonic_ns()) / 1e9)
            socket = self._socket
            if socket is None:
                continue
            heard = asyncio.Event()

            def hear(_message: Message | None, heard: asyncio.Event = heard) -> None:
                heard.set()

            reply = self.await_reply(hear)
            sent = self.publish(reply, b"")
            try:
                for _ in range(2 if sent else 0):
                    try:
                        async with asyncio.timeout(PULSE_WAIT_S):
                            await heard.wait()
                    except TimeoutError:
                        continue
                    break
            finally:
                self.forget(reply)
            if not heard.is_set():
                self._drop(socket, "no proof of life")

    # -- replies

    def _take_reply(self, message: Message) -> None:
        sink = self._awaited.get(message.subject)
        if sink is not None:
            sink(message)

    def _fail_awaited(self) -> None:
        awaited, self._awaited = self._awaited, {}
        for sink in awaited.values():
            self._guarded(partial(sink, None))

    def _guarded(self, sink: Callable[[], None]) -> None:
        try:
            sink()
        except Exception:  # one caller's bug must not keep the news from the others
            self.sink_failures += 1
            _logger.exception("sink_failed", extra={"subject": "connection state"})

    def _start(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            _logger.error("wire_task_failed", extra={"task": task.get_name()}, exc_info=exc)
