"""Real servers for integration tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hole_proxy import HoleProxy

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


@pytest.fixture
async def proxy(nats: NatsServer) -> AsyncIterator[HoleProxy]:
    """A proxy in front of `nats`."""
    made = await HoleProxy(nats.port).start()
    yield made
    await made.close()
