"""One agent, from its configuration to its end; `__main__` is where it begins."""

import asyncio
import gc
import signal
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from millstream_events.clock import SystemClock
from millstream_events.connect import connect
from millstream_events.errors import BusDeniedError, ClusterNotReachedError
from millstream_events.logs import configure_logging, get_logger
from millstream_executor.agent import Agent
from millstream_executor.agent_ports import OnExit, OnMessages
from millstream_executor.config import AgentConfig
from millstream_executor.fleet import Fleet
from millstream_executor.root_start import StartedRoot

log = get_logger("agent")

#: How long an agent waits for a server that is still starting.
_CONNECT_DEADLINE_S: Final = 30.0


def serve(content: bytes, mark: str, root: StartedRoot | None) -> int:
    """Run one agent until SIGTERM; return the exit status.

    Args:
        content: JSON of `AgentConfig`.
        mark: Of its fleet.
        root: Its root template, if that has been started already.
    """
    config = msgspec.json.decode(content, type=AgentConfig)
    configure_logging("agent")
    # What is here now stays; a collection over it would only cost time.
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
    try:
        cache_dir = Path(config.data_dir).absolute() / "cache"
        uvloop.run(_serve(config, cache_dir, mark, root))
    except (BusDeniedError, ClusterNotReachedError) as exc:
        log.error("agent_failed", why=str(exc))
        return 7
    return 0


async def _serve(config: AgentConfig, cache_dir: Path, mark: str, root: StartedRoot | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def make_fleet(on_messages: OnMessages, on_exit: OnExit) -> Fleet:
        return Fleet(on_messages, on_exit, cache_dir, mark=mark, root=root)

    connection = await connect(
        config.endpoint, name=f"agent-{config.agent}", deadline_s=_CONNECT_DEADLINE_S
    )
    try:
        await Agent(config, connection, SystemClock(), make_fleet).run(stop)
    finally:
        await connection.close()
