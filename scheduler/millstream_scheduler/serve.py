"""One scheduler, from its configuration to its end; `__main__` is where it begins."""

import asyncio
import gc
import signal
from pathlib import Path

import msgspec
import uvloop

from millstream_events.clock import SystemClock
from millstream_events.connect import Connection, connect
from millstream_events.errors import BusDeniedError, ClusterNotReachedError, LogUnavailableError
from millstream_events.logs import configure_logging, get_logger
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.shard import ShardOwner

log = get_logger("scheduler")

#: How long a scheduler waits for a server that is still starting.
_CONNECT_DEADLINE_S = 30.0


async def _connected(config: SchedulerConfig) -> Connection:
    connection = await connect(config.endpoint, name=config.node, deadline_s=_CONNECT_DEADLINE_S)
    await connection.ensure_streams(config.endpoint.shard_name)
    return connection


async def _serve(config: SchedulerConfig, path: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connection = await _connected(config)
    try:
        await ShardOwner(connection, SystemClock(), config, path).run(stop)
    finally:
        await connection.close()


def serve(path: Path) -> int:
    """Run one scheduler until SIGTERM; return the exit status.

    Args:
        path: JSON of `SchedulerConfig`.
    """
    config = msgspec.json.decode(path.read_bytes(), type=SchedulerConfig)
    configure_logging("scheduler")
    # A collection over a large folded state would stall a tick: what is here now stays.
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
    try:
        uvloop.run(_serve(config, path))
    except (BusDeniedError, ClusterNotReachedError, LogUnavailableError) as exc:
        log.error("scheduler_failed", why=str(exc))
        return 7
    return 0
