"""The agent process: `python -m millstream_executor --config FILE`."""

import argparse
import asyncio
import gc
import os
import signal
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from millstream._io_paths import RAW_DATA_VARIABLE, RAW_DIR
from millstream_events.clock import SystemClock
from millstream_events.connect import connect
from millstream_events.errors import BusDeniedError, ClusterNotReachedError
from millstream_events.logs import configure_logging, get_logger
from millstream_executor.agent import Agent
from millstream_executor.agent_ports import OnExit, OnMessages
from millstream_executor.config import AgentConfig
from millstream_executor.fleet import Fleet

log = get_logger("agent")

#: How long an agent waits for a server that is still starting.
_CONNECT_DEADLINE_S: Final = 30.0


async def _serve(config: AgentConfig, cache_dir: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def make_fleet(on_messages: OnMessages, on_exit: OnExit) -> Fleet:
        return Fleet(on_messages, on_exit, cache_dir)

    connection = await connect(
        config.endpoint, name=f"agent-{config.agent}", deadline_s=_CONNECT_DEADLINE_S
    )
    try:
        await Agent(config, connection, SystemClock(), make_fleet).run(stop)
    finally:
        await connection.close()


def main() -> int:
    """Run one agent until SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(prog="millstream_executor", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON of AgentConfig")
    path: Path = parser.parse_args().config
    config = msgspec.json.decode(path.read_bytes(), type=AgentConfig)
    configure_logging("agent")
    # Workers inherit it: where tasks put files, unless their run says otherwise.
    os.environ.setdefault(RAW_DATA_VARIABLE, str(Path(config.data_dir).absolute() / RAW_DIR))
    # What is here now stays; a collection over it would only cost time.
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
    try:
        uvloop.run(_serve(config, Path(config.data_dir).absolute() / "cache"))
    except (BusDeniedError, ClusterNotReachedError) as exc:
        log.error("agent_failed", why=str(exc))
        return 7
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
