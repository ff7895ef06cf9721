"""One scheduler process and its shard: seek the lease, take over, lead, and again."""

import asyncio
import contextlib
import os
import secrets
import sys
from pathlib import Path
from typing import Final

from millstream_events import model as m
from millstream_events.connect import Connection
from millstream_events.errors import LogFullError, LogUnavailableError, StaleWriterError
from millstream_events.logs import get_logger
from millstream_events.ports import Clock
from millstream_events.state import ShardState
from millstream_scheduler.book import rebuild
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.leader import Leader
from millstream_scheduler.notifier import Notifier
from millstream_scheduler.ownership import Lease
from millstream_scheduler.snapshot import events_until_next, load_for, snapshot_path
from millstream_scheduler.source_reader import read_sources
from millstream_scheduler.takeover import elect

log = get_logger("scheduler")

#: How often the number of events since the last snapshot is looked at.
_SNAPSHOT_LOOK_S: Final = 5.0
_SNAPSHOT_DEADLINE_S: Final = 600.0


class ShardOwner:
    """Leads the shard whenever this process holds its lease."""

    def __init__(
        self, connection: Connection, clock: Clock, config: SchedulerConfig, config_path: Path
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._config = config
        self._config_path = config_path
        self._shard = config.endpoint.shard_name

    async def run(self, stop: asyncio.Event) -> None:
        """Seek, lead and seek again until `stop` is set; then resign."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                lease = Lease(
                    self._connection.leases,
                    self._connection.bus,
                    self._clock,
                    self._config,
                    nonce=secrets.token_hex(8),
                )
                await _first(stopping, lease.acquire())
                if stop.is_set():
                    return
                try:
                    await _first(stopping, self._lead(lease))
                except (LogFullError, LogUnavailableError, StaleWriterError) as exc:
                    log.warning("takeover_failed", shard=self._shard, why=str(exc))
                if stop.is_set():
                    await lease.resign()
        finally:
            stopping.cancel()

    async def _lead(self, lease: Lease) -> None:
        """Take over and lead until deposed, or until the lease is lost."""
        keeping = asyncio.create_task(lease.keep())
        leader: Leader | None = None
        try:
            event_log = self._connection.event_log(self._shard)
            state = ShardState(self._shard)
            if self._config.data_dir:
                path = snapshot_path(self._config.data_dir, self._shard)
                state = await load_for(path, event_log, self._shard)
            await elect(event_log, state, node=self._config.node, clock=self._clock)
            if keeping.done() or state.unknown:
                log.warning("leadership_declined", why=state.unknown or keeping.result())
                return
            sources = await read_sources(event_log, state)
            book = rebuild(state, self._config, secrets.token_bytes(32), sources)
            leader = Leader(
                book,
                event_log,
                self._connection.bus,
                self._clock,
                self._connection.blobs,
                endpoint=self._config.endpoint,
                node=f"{self._config.node}#{os.getpid()}",
            )
            notifier = Notifier(state, leader.annotate, smtp=self._config.smtp)
            leader.on_run_over = notifier.ended
            leader.start()
            snapshots = asyncio.create_task(self._snapshots(leader))
            try:
                await asyncio.wait({keeping, leader.deposed}, return_when=asyncio.FIRST_COMPLETED)
                if keeping.done():
                    log.warning("lease_lost", shard=self._shard, why=keeping.result())
            finally:
                snapshots.cancel()
                notifier.stop()
        finally:
            keeping.cancel()
            if leader is not None:
                leader.stop()

    async def _snapshots(self, leader: Leader) -> None:
        """Have a snapshot made whenever enough events were written since the last."""
        if not self._config.data_dir:
            return
        covered = 0
        while True:
            await asyncio.sleep(_SNAPSHOT_LOOK_S)
            due = covered + events_until_next(self._config.snapshot_events, leader.kept)
            if leader.events_written >= due:
                covered = leader.events_written
                await self._snapshot(leader)

    async def _snapshot(self, leader: Leader) -> None:
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "millstream_scheduler.snapshot",
            str(self._config_path),
            stdout=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        printed = b""
        try:
            async with asyncio.timeout(_SNAPSHOT_DEADLINE_S):
                printed, _ = await program.communicate()
        except TimeoutError:
            pass  # Killed below, and reported by its status.
        finally:
            if program.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    program.kill()
                await program.wait()
        if program.returncode == 0:
            seq, digest = printed.decode().split()
            path = snapshot_path(self._config.data_dir, self._shard)
            leader.note(
                m.SnapshotTaken(0, seq=int(seq), state_hash=bytes.fromhex(digest), uri=path.name)
            )
        else:
            log.warning("snapshot_failed", status=program.returncode)


async def _first(stopping: asyncio.Task[bool], work: object) -> None:
    """Run `work` until it ends or `stopping` does; its failure is raised."""
    assert asyncio.iscoroutine(work), work
    task: asyncio.Task[None] = asyncio.create_task(work)
    try:
        await asyncio.wait({stopping, task}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
