"""The scheduler process: `python -m millstream_scheduler --config FILE`."""

import argparse
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


def main() -> int:
    """Run one scheduler until SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(prog="millstream_scheduler", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON of SchedulerConfig")
    path: Path = parser.parse_args().config
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


if __name__ == "__main__":
    raise SystemExit(main())
