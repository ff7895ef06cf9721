"""The parts of an installation as processes of their own, each of which a test may break alone.

The test process runs nats-server and a client; schedulers and agents are children without a
supervisor, so nothing comes back unless the test starts it again. Everything is waited for
through the log or the client, with a deadline.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
from dev_tree import assert_audit_is_clean, events_of, whole_log

from millstream._client import Client, settle
from millstream._config import Settings
from millstream._init import Installation
from millstream._outputs import decoded
from millstream._reader import read_run
from millstream._submit import RunOptions, prepare, store_uploads
from millstream._task import Task
from millstream_events.commands import Accepted, RunReleased
from millstream_events.connect import Connection, connect
from millstream_events.endpoint import Endpoint
from millstream_events.errors import MillstreamError
from millstream_events.fold import fold_entry
from millstream_events.model import Event
from millstream_events.nats_server import NatsServer, NatsServerOptions, start_nats_server
from millstream_events.ports import LogEntry
from millstream_events.state import RunState, ShardState
from millstream_events.values import Inline
from millstream_executor.config import AgentConfig
from millstream_scheduler.config import SchedulerConfig

SUPPORT = Path(__file__).resolve().parent
SHARD = "lo00"


class Part:
    """One child process that is started from a configuration file."""

    def __init__(self, module: str, name: str, config: msgspec.Struct, folder: Path) -> None:
        self.name = name
        self._module = module
        self._config = folder / f"{name}.json"
        self._config.write_bytes(msgspec.json.encode(config))
        self._config.chmod(0o600)
        self._log = folder / f"{name}.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MILLSTREAM_")}
        self._environ = {**kept, "TRAIL": str(folder / "trail")}
        self.process = self._launch()

    def _launch(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self._module, "--config", str(self._config)],
                env=self._environ,
                cwd=self._config.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start it again, once it is gone."""
        assert self.process.poll() is not None, f"{self.name} runs"
        self.process = self._launch()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def freeze(self) -> None:
        """Stop it where it stands."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        """End it, politely at first."""
        if self.process.poll() is not None:
            return
        self.thaw()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    @property
    def printed(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()


class Parts:
    """A nats-server, schedulers, agents and one client."""

    def __init__(self, folder: Path, nats: NatsServer, **scheduler: Any) -> None:
        self.folder = folder
        self.nats = nats
        self.schedulers: list[Part] = []
        self.agents: list[Part] = []
        self.client: Client
        self._scheduler = scheduler
        settings = Settings(root_dir=str(SUPPORT))
        self._place = Installation(settings, SUPPORT)

    # ------------------------------------------------------------ processes

    def scheduler(self) -> Part:
        """Start one more scheduler, with a data directory of its own."""
        name = f"s{len(self.schedulers)}"
        config = SchedulerConfig(
            endpoint=self.nats.endpoint,
            node=name,
            data_dir=str(self.folder / name),
            **self._scheduler,
        )
        self.schedulers.append(Part("millstream_scheduler", name, config, self.folder))
        return self.schedulers[-1]

    def agent(self, *, port: int = 0, **settings: Any) -> Part:
        """Start one more agent; `port`: it reaches the server through a proxy there."""
        name = f"a{len(self.agents)}"
        endpoint: Endpoint = self.nats.endpoint
        if port:
            endpoint = msgspec.structs.replace(endpoint, url=f"nats://127.0.0.1:{port}")
        config = AgentConfig(
            endpoint=endpoint,
            agent=name,
            data_dir=str(self.folder / name),
            **{"slots": 4, "workers": 1, **settings},
        )
        self.agents.append(Part("millstream_executor", name, config, self.folder))
        return self.agents[-1]

    def freeze_nats(self) -> None:
        os.kill(self.nats.pid, signal.SIGSTOP)

    def thaw_nats(self) -> None:
        os.kill(self.nats.pid, signal.SIGCONT)

    def kill_nats(self) -> None:
        self.nats.process.kill()
        self.nats.process.wait(10)

    async def leader(self, deadline_s: float = 15.0) -> Part:
        """Return the scheduler that leads, as it answers now."""
        async with asyncio.timeout(deadline_s):
            described = await self.client.describe()
        node = described.leader.partition("#")[0]
        return next(part for part in self.schedulers if part.name == node)

    async def present(self, agent: str, deadline_s: float = 15.0) -> None:
        """Wait until the leader has heard an agent's introduction."""
        end_s = time.monotonic() + deadline_s
        while agent not in [each.agent for each in (await self.client.describe()).agents]:
            assert time.monotonic() < end_s
            await asyncio.sleep(0.05)

    async def seeks(self, part: Part, monitoring_port: int, deadline_s: float = 30.0) -> None:
        """Wait until the server has heard a scheduler ask twice more: it polls the lease."""
        url = f"http://127.0.0.1:{monitoring_port}/connz"
        first: dict[int, int] = {}
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s:
            with await asyncio.to_thread(urllib.request.urlopen, url) as answer:
                found = json.loads(answer.read())["connections"]
            for each in found:
                # A connection of the same name that was killed may linger: it asks nothing.
                if each.get("name") == part.name and (
                    each["in_msgs"] >= first.setdefault(each["cid"], each["in_msgs"]) + 2
                ):
                    return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{part.name} does not seek the lease")

    # ------------------------------------------------------------ runs

    async def submit(
        self, task: Task[..., Any], *args: object, name: str = "", **policy: object
    ) -> str:
        """Start a run and return its id; `policy` replaces fields of the root's policy."""
        submission = prepare(self._place, self.client, RunOptions(name=name), task, args, {})
        await store_uploads(self.client, submission)
        command = submission.command
        if policy:
            changed = msgspec.structs.replace(command.policy, **policy)
            command = msgspec.structs.replace(command, policy=changed)
        return (await self.client.submit(command)).run

    async def run(self, task: Task[..., Any], *args: object) -> RunReleased:
        """Run a task to its end, asked for and watched in one message as `millstream.run` does."""
        submission = prepare(self._place, self.client, RunOptions(), task, args, {})
        await store_uploads(self.client, submission)
        over: asyncio.Future[RunReleased] = self.client.loop.create_future()

        def accepted(answer: Accepted | MillstreamError) -> None:
            if isinstance(answer, MillstreamError):
                settle(over, answer)

        self.client.submit_with(submission.command, accepted, lambda end: settle(over, end))
        return await over

    async def released(self, run: str, deadline_s: float = 60.0) -> RunReleased:
        """Wait for a run's end."""
        async with asyncio.timeout(deadline_s):
            return await self.client.wait(run)

    async def result(self, task: Task[..., Any], run: str, deadline_s: float = 60.0) -> object:
        """Wait for a run that succeeds and return what it returned."""
        release = await self.released(run, deadline_s)
        assert release.phase == "SUCCEEDED", release
        assert release.output is None or isinstance(release.output, Inline)
        return decoded(task, release.output)

    async def warm(self, task: Task[..., Any], *args: object) -> None:
        """Run a task once, so that agents have a worker for it."""
        await self.released(await self.submit(task, *args))

    # ------------------------------------------------------------ what the record says

    async def until(
        self, run: str, reached: Callable[[RunState], bool], deadline_s: float = 30.0
    ) -> RunState:
        """Return the run as soon as the log says that it has come so far."""
        state = ShardState(SHARD)
        async with asyncio.timeout(deadline_s):
            async with contextlib.aclosing(self.client.log.follow(0, key=run)) as entries:
                async for entry in entries:
                    fold_entry(state, entry)
                    if run in state.runs and reached(state.runs[run]):
                        return state.runs[run]
        raise AssertionError("the log ended")

    async def succeeded(self, run: str) -> int:
        """Return how many actions of a run have succeeded by now."""
        history = await read_run(self.client.log, run)
        return 0 if history is None else history.state.succeeded

    async def next_success(self, run: str, deadline_s: float = 30.0) -> int:
        """Wait until one more action than now has succeeded; return how many have."""
        seen = await self.succeeded(run)
        return (await self.until(run, lambda state: state.succeeded > seen, deadline_s)).succeeded

    async def log(self) -> list[LogEntry]:
        """Return every record."""
        return await whole_log(self.client.connection)  # type: ignore[arg-type]  # it is one

    async def events(self, run: str = "") -> list[Event]:
        """Return the events of one run, or of all."""
        return [event for key, _, event in events_of(await self.log()) if run in ("", key)]

    async def audited(self) -> None:
        """Require a clean audit of a log in which everything is over."""
        assert_audit_is_clean(await self.log())

    @property
    def trail(self) -> list[tuple[str, int]]:
        """What bodies have marked, with the worker's pid."""
        path = self.folder / "trail"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(what, int(pid)) for what, _, pid in (line.partition(" ") for line in lines)]

    def executions(self, prefix: str = "") -> dict[str, int]:
        """Return how often each body or step ran."""
        counts: dict[str, int] = {}
        for what, _ in self.trail:
            if what.startswith(prefix):
                counts[what] = counts.get(what, 0) + 1
        return counts

    async def marked(self, what: str, times: int = 1, deadline_s: float = 20.0) -> int:
        """Wait until a body has left that mark so often; return the pid of the last one."""
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s:
            pids = [pid for found, pid in self.trail if found == what]
            if len(pids) >= times:
                return pids[-1]
            await asyncio.sleep(0.005)
        raise AssertionError(f"{what} has not run {times} times: {self.executions()}")


def record(what: str, seconds: float) -> None:
    """Print what a fault cost."""
    print(f"\n{what}: next success after {seconds:.2f} s")


def free_port() -> int:
    """Return a loopback port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def gone(pid: int) -> bool:
    """Say whether a process is no more, or only a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextlib.asynccontextmanager
async def parts(
    folder: Path,
    *,
    schedulers: int = 1,
    agents: int = 1,
    options: NatsServerOptions | None = None,
    **scheduler: Any,
) -> AsyncIterator[Parts]:
    """Start everything and end it, whatever happens; further settings are the schedulers'."""
    nats = start_nats_server(folder / "nats", options)
    made = Parts(folder, nats, **scheduler)
    try:
        for _ in range(schedulers):
            made.scheduler()
        for _ in range(agents):
            made.agent()
        connection: Connection = await connect(nats.endpoint, name="test", deadline_s=10)
        made.client = Client(connection, nats.endpoint)
        try:
            await made.leader()
            yield made
        finally:
            await made.client.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            made.thaw_nats()
        for part in (*made.agents, *made.schedulers):
            part.end()
        made.nats.stop()
