"""A whole installation in memory: for tests, simulation, and `mode="local"`.

`MemoryConnection()` is one with a connection to it; `connection.peer()` is another connection
to the same. Nothing here needs real time, a socket or a thread, so all of it runs under a
simulated event loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from millstream_events.endpoint import Endpoint
from millstream_events.errors import (
    BlobCorruptError,
    BlobMissingError,
    LogFullError,
    LogUnavailableError,
    StaleWriterError,
)
from millstream_events.ids import Digest, digest_of
from millstream_events.memory_bus import MemoryBus, MemorySwitch
from millstream_events.memory_faults import FaultPlan
from millstream_events.memory_log import MemoryLog, MemoryRecords
from millstream_events.ports import Durability, OutputBatch

#: Batches that one read of outputs returns.
OUTPUT_READ_MAX = 1000


class MemoryLeases:
    """`LeaseStore` in memory."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[bytes, int]] = {}
        self._revision = 0
        #: While false, nothing answers.
        self.connected = True

    async def read(self, key: str) -> tuple[bytes, int] | None:
        """Return value and revision; see `LeaseStore.read`."""
        await self._reach()
        return self._values.get(key)

    async def write(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value at `revision`; see `LeaseStore.write`."""
        await self._reach()
        if self._values.get(key, (b"", 0))[1] != revision:
            raise StaleWriterError(key, revision)
        self._revision += 1
        self._values[key] = (value, self._revision)
        return self._revision

    async def delete(self, key: str, revision: int) -> None:
        """Remove the value at `revision`; see `LeaseStore.delete`."""
        await self._reach()
        if self._values.get(key, (b"", 0))[1] == revision:
            self._values.pop(key, None)

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if not self.connected:
            raise LogUnavailableError("leases", "not connected")


class MemoryBlobs:
    """`BlobStore` in memory."""

    def __init__(self) -> None:
        #: Content by digest; tests may spoil it.
        self.contents: dict[Digest, bytes] = {}
        #: While true, there is no room.
        self.full = False

    async def put(self, content: bytes) -> Digest:
        """Store `content`; see `BlobStore.put`."""
        await asyncio.sleep(0)
        digest = digest_of(content)
        if digest not in self.contents:
            if self.full:
                raise LogFullError("blobs")
            self.contents[digest] = bytes(content)
        return digest

    async def get(self, digest: Digest) -> bytes:
        """Return the content; see `BlobStore.get`."""
        await asyncio.sleep(0)
        content = self.contents.get(digest)
        if content is None:
            raise BlobMissingError(digest.hex())
        if digest_of(content) != digest:
            raise BlobCorruptError(digest.hex(), len(content))
        return content

    async def has(self, digest: Digest) -> bool:
        """Say whether `get` would find it."""
        await asyncio.sleep(0)
        return digest in self.contents


class MemoryOutputs:
    """`OutputStore` in memory; never forgets."""

    def __init__(self) -> None:
        self._batches: list[OutputBatch] = []
        self._news: set[asyncio.Event] = set()

    def put(self, pool: str, batch: OutputBatch) -> None:
        """Store a batch; see `OutputStore.put`."""
        del pool  # Nothing is routed here.
        self._batches.append(batch)
        for news in self._news:
            news.set()

    async def read(
        self, run: str, *, action: int | None = None, after_seq: int = 0
    ) -> Sequence[tuple[int, OutputBatch]]:
        """Return batches with their sequence; see `OutputStore.read`."""
        await asyncio.sleep(0)
        found: list[tuple[int, OutputBatch]] = []
        for at in range(after_seq, len(self._batches)):
            batch = self._batches[at]
            if batch.run == run and action in (None, batch.action):
                found.append((at + 1, batch))
            if len(found) >= OUTPUT_READ_MAX:
                break
        return found

    async def follow(
        self, run: str, *, action: int | None = None, after_seq: int = 0
    ) -> AsyncIterator[tuple[int, OutputBatch]]:
        """Yield what is there, then what comes; see `OutputStore.follow`."""
        news = asyncio.Event()
        self._news.add(news)
        try:
            while True:
                news.clear()
                batches = await self.read(run, action=action, after_seq=after_seq)
                for seq, batch in batches:
                    after_seq = seq
                    yield seq, batch
                if not batches:
                    await news.wait()
        finally:
            self._news.discard(news)


class MemoryInstallation:
    """What all connections to one installation in memory share."""

    def __init__(self, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._records: dict[str, MemoryRecords] = {}
        self.switch = MemorySwitch()
        self.leases = MemoryLeases()
        self.blobs = MemoryBlobs()
        self.outputs = MemoryOutputs()

    def records(self, shard_name: str) -> MemoryRecords:
        """Return what the shard's log holds."""
        records = self._records.get(shard_name)
        if records is None:
            records = self._records[shard_name] = MemoryRecords(self._now_ns)
        return records


class MemoryConnection:
    """`Connected` in memory."""

    def __init__(
        self, installation: MemoryInstallation | None = None, *, plan: FaultPlan | None = None
    ) -> None:
        self.installation = installation or MemoryInstallation()
        self.endpoint = Endpoint(url="memory:")
        self._plan = plan or FaultPlan()
        self._logs: dict[str, MemoryLog] = {}
        self._closed = False
        self._closed_sinks: list[Callable[[], None]] = []
        self.bus = MemoryBus(self.installation.switch, self._plan)
        self.leases = self.installation.leases
        self.blobs = self.installation.blobs
        self.outputs = self.installation.outputs

    @property
    def durability(self) -> Durability:
        """The weakest there is; in truth nothing here survives the process."""
        return "process"

    @property
    def server_version(self) -> str:
        """No server, no version."""
        return "memory"

    def peer(self, *, plan: FaultPlan | None = None) -> "MemoryConnection":
        """Return another connection to the same installation."""
        return MemoryConnection(self.installation, plan=plan)

    def event_log(self, shard_name: str) -> MemoryLog:
        """Return the shard's log, as this connection reaches it."""
        log = self._logs.get(shard_name)
        if log is None:
            log = MemoryLog(
                self.installation.records(shard_name),
                self._plan,
                switch=self.installation.switch,
                namespace=self.endpoint.namespace,
                shard=shard_name,
            )
            log.connected = self.bus.connected
            self._logs[shard_name] = log
        return log

    async def ensure_streams(self, shard_name: str) -> None:
        """Do what making streams comes to here: make the shard's records."""
        self.installation.records(shard_name)

    def cut(self) -> None:
        """Cut this connection: appends in flight are unclear, messages are lost."""
        self.bus.cut()
        for log in self._logs.values():
            log.connected = False
            log.cut()

    def restore(self) -> None:
        """Connect again."""
        for log in self._logs.values():
            log.connected = True
        self.bus.restore()

    def on_closed(self, sink: Callable[[], None]) -> None:
        """Call `sink` once the connection is closed."""
        self._closed_sinks.append(sink)

    async def close(self) -> None:
        """End the connection for good."""
        if self._closed:
            return
        self._closed = True
        self.cut()
        for sink in self._closed_sinks:
            sink()
