"""A few lines of the NATS protocol: whether a server is there, and who works for the shard.

Used for the supervisor and by whoever looks for a cluster. The real client costs 150 ms to import
and 15 MB to keep, which a command of half a second should not pay.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from millstream_events.codec import decoder_of, encode
from millstream_events.commands import ClientBatch, DescribeShard, ShardDescribed, ToClient
from millstream_events.endpoint import Endpoint
from millstream_events.errors import BusDeniedError, BusError, BusUnavailableError
from millstream_events.subjects import client_subject, command_subject

#: Between two looks at a cluster that is not ready yet.
_LOOK_S: Final = 0.02
#: One answer of the server: MSG line and payload together stay far below it.
_LINE_BYTES_MAX: Final = 4 * 1024 * 1024
_decode_reply: Final = decoder_of(ToClient)


class ServerFacts(msgspec.Struct, frozen=True):
    """What a nats-server says of itself when somebody connects."""

    server_id: str = ""
    version: str = ""
    jetstream: bool = False
    max_payload: int = 0


class Probe:
    """One short connection to a nats-server."""

    def __init__(
        self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._endpoint = endpoint
        self._reader = reader
        self._writer = writer
        self._subscriptions = 0
        self.facts = ServerFacts()

    async def greet(self) -> None:
        """Read the server's introduction and show the credential.

        Raises:
            BusDeniedError: The server refused it.
            BusUnavailableError: No nats-server at the other end.
        """
        line = await self._line()
        if not line.startswith(b"INFO "):
            raise BusUnavailableError(self._endpoint.url, "something else than a nats-server")
        self.facts = msgspec.json.decode(line[5:], type=ServerFacts)
        options = {"verbose": False, "pedantic": False, "lang": "python", "version": "0"}
        if self._endpoint.token:
            options["auth_token"] = self._endpoint.token
        self._writer.write(b"CONNECT " + msgspec.json.encode(options) + b"\r\nPING\r\n")
        while True:
            line = await self._line()
            if line == b"PONG":
                return
            if line.startswith(b"-ERR"):
                raise BusDeniedError(self._endpoint.url)

    async def request(self, subject: str, reply: str, payload: bytes) -> bytes:
        """Publish `payload` on `subject` and return the first message on `reply`."""
        self._subscriptions += 1
        head = f"SUB {reply} {self._subscriptions}\r\nPUB {subject} {reply} {len(payload)}\r\n"
        self._writer.write(head.encode() + payload + b"\r\n")
        while True:
            line = await self._line()
            if line == b"PING":
                self._writer.write(b"PONG\r\n")
            elif line.startswith((b"MSG ", b"HMSG ")):
                body = await self._reader.readexactly(int(line.rpartition(b" ")[2]) + 2)
                if line.startswith(b"MSG "):
                    return body[:-2]

    async def _line(self) -> bytes:
        line = await self._reader.readline()
        if not line:
            raise BusUnavailableError(self._endpoint.url, "the connection was closed")
        return line.rstrip(b"\r\n")

    def close(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()


async def open_probe(endpoint: Endpoint, *, deadline_s: float = 1.0) -> Probe:
    """Connect to the first server of `endpoint` that answers.

    Raises:
        BusDeniedError: The server refused the credential.
        BusUnavailableError: No answer within `deadline_s`.
    """
    why = "no server named"
    for server in endpoint.url.split(","):
        parts = urlsplit(server)
        try:
            async with asyncio.timeout(deadline_s):
                reader, writer = await asyncio.open_connection(
                    parts.hostname, parts.port or 4222, limit=_LINE_BYTES_MAX
                )
                probe = Probe(endpoint, reader, writer)
                try:
                    await probe.greet()
                except BaseException:
                    probe.close()
                    raise
                return probe
        except (OSError, TimeoutError, BusUnavailableError) as exc:
            why = str(exc) or "no answer"
    raise BusUnavailableError(endpoint.url, why)


async def describe(endpoint: Endpoint, *, deadline_s: float = 1.0) -> ShardDescribed | None:
    """Return what the shard's leader says of itself, or None when nobody leads.

    Raises:
        BusDeniedError, BusUnavailableError: as `open_probe`.
    """
    probe = await open_probe(endpoint, deadline_s=deadline_s)
    who, proc = "probe", os.urandom(6).hex()
    ns = endpoint.namespace
    batch = ClientBatch(f"{who}.{proc}", (DescribeShard(os.urandom(16)),))
    try:
        async with asyncio.timeout(deadline_s):
            answer = await probe.request(
                command_subject(ns, endpoint.shard_name, who),
                client_subject(ns, who, proc),
                encode(batch),
            )
    except (TimeoutError, OSError, BusUnavailableError, asyncio.IncompleteReadError):
        return None
    finally:
        probe.close()
    reply = _decode_reply(answer)
    if reply is None:
        return None
    return next((item for item in reply.items if isinstance(item, ShardDescribed)), None)


def wait_until_ready(raw: Mapping[str, Any]) -> None:
    """Return once the cluster of a `SupervisorConfig`, given in plain form, takes work."""
    endpoint = msgspec.convert(raw["ready"]["endpoint"], Endpoint)
    agents_min = raw["agents_min"] if raw["leader"] else -1

    async def wait() -> None:
        while not await _is_ready(endpoint, agents_min):  # noqa: ASYNC110 other processes
            await asyncio.sleep(_LOOK_S)

    asyncio.run(wait())


async def _is_ready(endpoint: Endpoint, agents_min: int) -> bool:
    """Say whether the server answers and, unless `agents_min` is negative, somebody leads."""
    try:
        if agents_min < 0:
            (await open_probe(endpoint)).close()
            return True
        shard = await describe(endpoint, deadline_s=0.3)
    except BusError:
        return False
    return shard is not None and len(shard.agents) >= agents_min
