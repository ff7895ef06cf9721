"""Local mode: the whole core in the caller's process, over the log in memory.

A composition root: leader, agent and client are the real ones and speak the real protocol; only
the log, the bus and the workers are of this process (`MemoryConnection`, `InlineFleet`).
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Final

from millstream._client import Client
from millstream_events.clock import SystemClock
from millstream_events.endpoint import Endpoint
from millstream_events.memory import MemoryConnection
from millstream_events.state import ShardState
from millstream_executor.agent import Agent
from millstream_executor.agent_ports import OnExit, OnMessages, WorkerFleet
from millstream_executor.config import AgentConfig
from millstream_executor.inline_fleet import InlineFleet
from millstream_executor.loader import TaskLoader
from millstream_scheduler.book import rebuild
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.leader import Leader
from millstream_scheduler.notifier import Notifier
from millstream_scheduler.takeover import elect

#: Attempts at once: code that waits costs nothing here, and code that computes shares one GIL.
_SLOTS: Final = 64
_CLOSE_S: Final = 5.0


class LocalCluster:
    """Leader, agent and client of local mode, on one event loop."""

    def __init__(
        self,
        client: Client,
        leader: Leader,
        notifier: Notifier,
        agent: asyncio.Task[None],
        folder: Path,
    ) -> None:
        self.client = client
        self._notifier = notifier
        self._leader = leader
        self._agent = agent
        self._folder = folder

    async def close(self) -> None:
        """End everything; open attempts are cancelled."""
        await self.client.close()
        await self._notifier.drain(_CLOSE_S)
        self._notifier.stop()
        self._agent.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._agent
        self._leader.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


async def open_local() -> LocalCluster:
    """Start local mode on the running event loop."""
    endpoint = Endpoint(url="memory:")
    connection = MemoryConnection()
    folder = Path(tempfile.mkdtemp(prefix="millstream-local-"))
    clock = SystemClock()
    await connection.ensure_streams(endpoint.shard_name)

    state = ShardState(endpoint.shard_name)
    event_log = connection.event_log(endpoint.shard_name)
    await elect(event_log, state, node="local", clock=clock)
    settings = SchedulerConfig(endpoint=endpoint, node="local")
    book = rebuild(state, settings, secrets.token_bytes(32))
    leader = Leader(
        book,
        event_log,
        connection.bus,
        clock,
        connection.blobs,
        endpoint=endpoint,
        node=f"local#{os.getpid()}",
    )

    notifier = Notifier(state, leader.annotate, smtp=settings.smtp)
    leader.on_run_over = notifier.ended
    loader = TaskLoader(None, in_place=True)

    def make_fleet(on_messages: OnMessages, on_exit: OnExit) -> WorkerFleet:
        return InlineFleet(folder / "cache", on_messages, on_exit, loader)

    config = AgentConfig(
        endpoint=endpoint, agent="local", slots=_SLOTS, workers=1, data_dir=str(folder)
    )
    agent = asyncio.create_task(
        Agent(config, connection, clock, make_fleet).run(asyncio.Event()), name="local-agent"
    )
    leader.start()
    client = Client(connection, endpoint, ships_code=False)
    return LocalCluster(client, leader, notifier, agent, folder)
