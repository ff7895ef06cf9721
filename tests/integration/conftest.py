"""Real servers for integration tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from millstream_events.connect import Connection, connect
from millstream_events.nats_server import NatsServer, start_nats_server


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server of the test's own, with its store in `tmp_path`."""
    server = start_nats_server(tmp_path / "nats")
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def connection(nats: NatsServer) -> AsyncIterator[Connection]:
    """A connection to `nats`, with the streams of shard `lo00` made."""
    made = await connect(nats.endpoint, name="test")
    await made.ensure_streams("lo00")
    yield made
    await made.close()


class HoleProxy:
    """A link to a server that can swallow bytes, reset, or accept and never answer."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Swallow what the server sends / what the client sends.
        self.hole_down = False
        self.hole_up = False
        #: Accept new connections and never answer.
        self.mute = False
        self.port = 0

    async def start(self) -> "HoleProxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self.mute:
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.add(far_writer)
        for pump in (
            self._pump(reader, far_writer, lambda: self.hole_up),
            self._pump(far_reader, writer, lambda: self.hole_down),
        ):
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hole: Callable[[], bool]
    ) -> None:
        try:
            while received := await reader.read(65536):
                if not hole():
                    writer.write(received)
                    await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    def reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        self.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


@pytest.fixture
async def proxy(nats: NatsServer) -> AsyncIterator[HoleProxy]:
    """A proxy in front of `nats`."""
    made = await HoleProxy(nats.port).start()
    yield made
    await made.close()
