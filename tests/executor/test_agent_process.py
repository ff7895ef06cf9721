"""A real agent process with real workers on a real nats-server; the test plays the leader."""

import asyncio
import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil
import pytest

from millstream_events import subjects
from millstream_events.codec import decoder_of, encode
from millstream_events.connect import Connection, connect
from millstream_events.ids import Digest
from millstream_events.nats_server import NatsServer, start_nats_server
from millstream_events.reports import (
    UNNUMBERED,
    AgentBatch,
    Cancel,
    Credit,
    Failed,
    Goodbye,
    Hello,
    Lost,
    Order,
    Release,
    Report,
    SayHello,
    StartAction,
    Started,
    Succeeded,
    ToAgent,
    Work,
)
from millstream_events.values import WORKER_ALONE, WORKER_THREAD, Inline, Policy, TaskRef
from millstream_executor.config import AgentConfig

pytestmark = pytest.mark.alone

DEADLINE_S = 20.0
RUN = "lo00-00000000-00000001"
T = TypeVar("T", bound=Report)

FLOW = """
import asyncio, time
import millstream as ms

env = ms.TaskEnvironment("t")

@env.task
async def double(x: int) -> int:
    print("doubling", x)
    return 2 * x

@env.task
async def parent(x: int) -> int:
    both = await asyncio.gather(double(x), double(x + 1))
    return sum(both)

@env.task
async def linger(x: int) -> int:
    await asyncio.sleep(x / 1000)
    return x

@env.task
def spin(x: int) -> int:
    while True:
        time.sleep(0.01)
"""


def pack_sources(sources: dict[str, str]) -> bytes:
    """Return a bundle of these files, as a client packs it."""
    raw = io.BytesIO()
    manifest = {"v": 1, "root": "", "main": None, "sys_path": [], "modules": ["flow"]}
    files = {**sources, "millstream-bundle.json": msgspec.json.encode(manifest).decode()}
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(raw.getvalue(), mtime=0)


class Leader:
    """Hears one agent and gives it orders, as simply as the protocol allows."""

    def __init__(self, connection: Connection, config: AgentConfig) -> None:
        self.bus = connection.bus
        self.epoch = 1
        self.acking = True
        self.heard: list[Report] = []
        self.hello: Hello | None = None
        self.incarnation = ""
        self.granted = 0
        self.sent = 0
        self.drawn = 0
        self._next = 1
        self._came = asyncio.Event()
        self._decode = decoder_of(AgentBatch)
        endpoint = config.endpoint
        self._work = subjects.work_subject(
            endpoint.namespace, endpoint.region, config.pool, config.agent
        )
        self.bus.subscribe(
            subjects.report_subject(endpoint.namespace, endpoint.shard_name, "*", "*"), self._hear
        )

    def _hear(self, _subject: str, payload: bytes) -> None:
        batch = self._decode(payload)
        assert batch is not None
        if batch.incarnation != self.incarnation:
            self.incarnation, self._next = batch.incarnation, batch.first
        number = batch.first
        for item in batch.items:
            if isinstance(item, Hello):
                self.hello, self.granted, self.sent = item, item.granted, 0
            elif isinstance(item, Credit):
                if self.hello is not None and item.generation == self.hello.generation:
                    self.granted = max(self.granted, item.granted)
                else:
                    # Its `Hello` came while we were not connected.
                    self.order(SayHello())
            if isinstance(item, UNNUMBERED):
                self.heard.append(item)
                continue
            if number == self._next:
                self._next += 1
                self.heard.append(item)
            number += 1
        if self.acking and number > batch.first:
            self.order()
        self._came.set()

    def order(self, *items: Order) -> None:
        acked = self._next - 1 if self.acking else 0
        self.bus.publish(
            self._work, encode(ToAgent(self.epoch, self.incarnation, acked, tuple(items)))
        )

    async def until(self, ready: Callable[[], T | None], deadline_s: float = DEADLINE_S) -> T:
        async with asyncio.timeout(deadline_s):
            while (found := ready()) is None:
                self._came.clear()
                await self._came.wait()
            return found

    async def first(self, kind: type[T], token: bytes = b"") -> T:
        """Return the first report of a kind, about one attempt."""

        def look() -> T | None:
            for item in self.heard:
                if isinstance(item, kind) and getattr(item, "token", b"") in (token, b""):
                    return item
            return None

        return await self.until(look)

    async def credit(self) -> None:
        await self.until(lambda: self.hello if self.granted > self.sent else None)

    async def dispatch(
        self, task: str, x: int, bundle: Digest, policy: Policy | None = None
    ) -> bytes:
        await self.credit()
        assert self.hello is not None
        self.drawn += 1
        self.sent += 1
        token = self.drawn.to_bytes(8, "big")
        self.order(
            Work(
                self.hello.generation,
                RUN,
                self.drawn,
                token + b"id",
                1,
                token,
                TaskRef(f"t.{task}", "flow", task, b"identity"),
                Inline("msgpack", msgspec.msgpack.encode({"x": x})),
                bundle=bundle,
                policy=policy,
            )
        )
        return token


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = start_nats_server(tmp_path_factory.mktemp("nats"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def connection(nats: NatsServer) -> AsyncIterator[Connection]:
    made = await connect(nats.endpoint, name="test")
    await made.ensure_streams("lo00")
    yield made
    await made.close()


@pytest.fixture
async def bundle(connection: Connection) -> Digest:
    return await connection.blobs.put(pack_sources({"flow.py": FLOW}))


class AgentProcess:
    """The agent as `millstream dev` starts it."""

    def __init__(self, config: AgentConfig, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "agent.json"
        self._path.write_bytes(msgspec.json.encode(config))
        self.start()

    def start(self) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "millstream_executor", "--config", str(self._path)],
                stderr=log,
                stdout=log,
            )

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Return the exit status; nothing of the agent is left behind."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        status = await asyncio.to_thread(self.process.wait, DEADLINE_S)
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, 5.0)
        assert not alive, alive
        return status

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()


@pytest.fixture
def config(nats: NatsServer, tmp_path: Path) -> AgentConfig:
    return AgentConfig(
        endpoint=nats.endpoint,
        agent=f"a{os.getpid()}-{abs(hash(tmp_path)) % 10**6}",
        slots=1,
        workers=1,
        data_dir=str(tmp_path),
    )


@pytest.fixture
async def leader(connection: Connection, config: AgentConfig) -> Leader:
    return Leader(connection, config)


@pytest.fixture
async def agent(config: AgentConfig, leader: Leader, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    running = AgentProcess(config, tmp_path)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            await running.stop()
        assert '"level":"error"' not in running.log.replace(" ", "")


async def test_a_task_runs_and_its_output_is_shipped(
    agent: AgentProcess, leader: Leader, bundle: Digest, connection: Connection
) -> None:
    token = await leader.dispatch("double", 21, bundle)
    done = await leader.first(Succeeded, token)
    assert isinstance(done.output, Inline)
    assert msgspec.msgpack.decode(done.output.content) in (42, {"o0": 42}, [42])
    async with asyncio.timeout(DEADLINE_S):
        while not (batches := await connection.outputs.read(RUN, action=done.action)):
            await asyncio.sleep(0.05)
    assert "doubling 21" in [line.text for line in batches[0][1].lines]
    assert await agent.stop() == 0


async def test_one_slot_carries_a_parent_and_its_children(
    agent: AgentProcess, leader: Leader, bundle: Digest
) -> None:
    token = await leader.dispatch("parent", 10, bundle)
    for n in (0, 1):
        call = await leader.until(
            lambda n=n: ([i for i in leader.heard if isinstance(i, StartAction)] + [None] * 2)[n]
        )
        child = await leader.dispatch("double", 10 + n, bundle)
        output = (await leader.first(Succeeded, child)).output
        leader.order(Release(RUN, token, call.id, 5, "SUCCEEDED", output))
    done = await leader.first(Succeeded, token)
    assert isinstance(done.output, Inline)
    assert msgspec.msgpack.decode(done.output.content) == 42


async def test_outcomes_nobody_acknowledged_are_reported_by_the_next_incarnation(
    agent: AgentProcess, leader: Leader, bundle: Digest, tmp_path: Path
) -> None:
    await leader.credit()
    leader.acking = False
    token = await leader.dispatch("double", 1, bundle)
    await leader.first(Succeeded, token)
    spool = next((tmp_path / "spool").glob("*.sqlite-wal"))
    async with asyncio.timeout(DEADLINE_S):
        while RUN.encode() not in spool.read_bytes():
            await asyncio.sleep(0.05)
    await agent.stop(signal.SIGKILL)
    former = leader.incarnation
    leader.heard.clear()
    leader.acking = True
    agent.start()
    await leader.first(Hello)
    assert leader.incarnation != former
    kinds = [type(item) for item in leader.heard]
    assert kinds[: kinds.index(Hello) + 1] == [Succeeded, Hello]


async def test_an_agent_outlives_a_restart_of_its_server(
    agent: AgentProcess, leader: Leader, bundle: Digest, nats: NatsServer
) -> None:
    token = await leader.dispatch("linger", 700, bundle)
    await leader.first(Started, token)
    nats.restart()
    done = await leader.first(Succeeded, token)
    assert done.run == RUN
    assert await leader.first(Succeeded, await leader.dispatch("double", 1, bundle))


async def test_a_killed_worker_loses_its_attempt_within_two_seconds(
    agent: AgentProcess, leader: Leader, bundle: Digest
) -> None:
    token = await leader.dispatch("linger", 60_000, bundle)
    started = await leader.first(Started, token)
    os.kill(started.pid, signal.SIGKILL)
    lost = await leader.until(
        lambda: next((i for i in leader.heard if isinstance(i, Lost)), None), 2.0
    )
    assert (lost.token, lost.why) == (token, "worker-crashed")
    assert await leader.first(Succeeded, await leader.dispatch("double", 1, bundle))


@pytest.mark.parametrize("kind", [WORKER_THREAD, WORKER_ALONE])
async def test_code_that_ignores_its_cancel_is_killed_after_the_grace(
    agent: AgentProcess, leader: Leader, bundle: Digest, kind: int
) -> None:
    token = await leader.dispatch("spin", 1, bundle, Policy(worker=kind))
    started = await leader.first(Started, token)
    leader.order(Cancel(token, 300, "aborted"))
    failed = await leader.first(Failed, token)
    assert failed.error.kind == "cancelled"
    async with asyncio.timeout(DEADLINE_S):
        while psutil.pid_exists(started.pid):
            await asyncio.sleep(0.02)
    assert await leader.first(Succeeded, await leader.dispatch("double", 1, bundle))


async def test_a_bundle_that_is_not_there_fails_its_work_for_good(
    agent: AgentProcess, leader: Leader
) -> None:
    token = await leader.dispatch("double", 1, Digest(b"n" * 32))
    failed = await leader.first(Failed, token)
    assert (failed.error.kind, failed.error.retryable) == ("dependency", False)


async def test_sigterm_lets_running_work_finish_and_says_goodbye(
    agent: AgentProcess, leader: Leader, bundle: Digest
) -> None:
    token = await leader.dispatch("linger", 700, bundle)
    await leader.first(Started, token)
    assert await agent.stop() == 0
    await leader.first(Succeeded, token)
    await leader.first(Goodbye)
