"""One rig for each kind of installation; every contract runs on all of them."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from millstream_events.connect import connect
from millstream_events.memory import MemoryConnection, MemoryInstallation
from millstream_events.nats_server import NatsServer, start_nats_server
from millstream_events.ports import Connected

_numbers = itertools.count(1)


class MemoryRig:
    """An installation in memory; `cut` and `restore` are its server's death and return."""

    kind = "memory"

    def __init__(self) -> None:
        self.installation = MemoryInstallation()
        self.shard = "lo00"
        self._connections: list[MemoryConnection] = []

    async def connect(self) -> Connected:
        connection = MemoryConnection(self.installation)
        self._connections.append(connection)
        await connection.ensure_streams(self.shard)
        return connection

    def cut(self) -> None:
        for connection in self._connections:
            connection.cut()

    def restore(self) -> None:
        for connection in self._connections:
            connection.restore()

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


class NatsRig:
    """A real nats-server; `cut` kills it, `restore` starts it again."""

    kind = "nats"

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        #: Each test has a log of its own on the shared server.
        self.shard = f"t{next(_numbers):03}"
        self._connections: list[Connected] = []

    async def connect(self) -> Connected:
        connection = await connect(self.server.endpoint, name="contract")
        self._connections.append(connection)
        await connection.ensure_streams(self.shard)
        return connection

    def cut(self) -> None:
        self.server.process.kill()
        self.server.process.wait()

    def restore(self) -> None:
        self.server.restart()

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = start_nats_server(tmp_path_factory.mktemp("contract") / "nats")
    yield server
    server.stop()


@pytest.fixture(params=["memory", "nats"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[MemoryRig | NatsRig]:
    """An installation that stays up."""
    if request.param == "memory":
        made: MemoryRig | NatsRig = MemoryRig()
    else:
        made = NatsRig(request.getfixturevalue("shared_server"))
    yield made
    await made.close()


@pytest.fixture(params=["memory", "nats"])
async def breakable(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[MemoryRig | NatsRig]:
    """An installation of the test's own, which it may break."""
    if request.param == "memory":
        yield MemoryRig()
        return
    server = start_nats_server(tmp_path / "nats")
    made = NatsRig(server)
    try:
        yield made
        await made.close()
    finally:
        server.stop()


@pytest.fixture
def within() -> Callable[..., Awaitable[None]]:
    """Wait until a condition holds, or fail after a deadline."""

    async def wait(condition: Callable[[], object], deadline_s: float = 3.0) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                while not condition():
                    await asyncio.sleep(0.002)
        except TimeoutError:
            pytest.fail(f"not within {deadline_s} s")

    return wait
