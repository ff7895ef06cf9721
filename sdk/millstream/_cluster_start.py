"""Turns a project directory into the configuration of a supervisor and of what it starts."""

import random
import secrets
import shutil
import socket
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec

from millstream._cluster_files import SECRETS_FILE, Layout, Ready
from millstream._cluster_plan import ChildSpec, SupervisorConfig
from millstream._cluster_private import write_private
from millstream_events.endpoint import Endpoint
from millstream_events.errors import ConfigError, StoreInUseError
from millstream_events.nats_server import (
    NatsServerOptions,
    StoreLock,
    find_nats_server,
    server_environment,
)
from millstream_events.nats_server import (
    # The supervisor starts the server, so the text is needed without `NatsServer`.
    _config_text as nats_config_text,  # pyright: ignore[reportPrivateUsage]
)
from millstream_events.ports import Durability
from millstream_events.values import UNSAID, Capacity
from millstream_executor.config import AgentConfig, agent_name
from millstream_scheduler.config import SchedulerConfig

#: Below the range from which systems draw ports for outgoing connections, so that nobody takes
#: the server's port while it is down for a moment.
_PORTS: Final = range(15_000, 32_000)
_PORT_TRIES_MAX: Final = 100
#: Levels that one machine can offer (architecture.md 6); `replicated` needs several servers.
DURABILITIES: Final[tuple[Durability, ...]] = ("process", "interval", "disk")
#: From SIGTERM to SIGKILL for each part.
NATS_STOP_S: Final = 3.0
SCHEDULER_STOP_S: Final = 2.0
AGENT_STOP_S: Final = 3.0
AGENT_DRAIN_MS: Final = 300
#: Parts of a cluster that do work; with neither, only the server runs, and only the log is read.
WORKING: Final = ("scheduler", "agent")


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may choose of a local cluster."""

    #: Actions that run at once; 0: one for each CPU.
    slots: int = 0
    #: Warm workers; 0: as the agent thinks fit.
    workers: int = 0
    durability: Durability = "interval"
    #: Nothing is kept when the cluster ends.
    ephemeral: bool = False
    #: What the machine has for tasks.
    capacity: Capacity = UNSAID

    def __post_init__(self) -> None:
        if self.durability not in DURABILITIES:
            raise ConfigError("durability", f"{self.durability!r} is none of {DURABILITIES}")
        if self.slots < 0 or self.workers < 0:
            raise ConfigError("slots, workers", "must not be negative")


def plan_cluster(
    layout: Layout,
    settings: ClusterSettings,
    *,
    need: Collection[str] = WORKING,
    has_users: bool,
    shown: bool = True,
) -> SupervisorConfig:
    """Write the configuration files of a new cluster and return its supervisor's.

    The caller holds the lock of the store.

    Args:
        layout: Where everything lies.
        settings: What the user chose.
        need: Which of `WORKING` to start beside the server.
        has_users: The cluster ends when nobody uses it any more.
        shown: Others may find and use the cluster.
    """
    if settings.ephemeral:
        shutil.rmtree(layout.data, ignore_errors=True)
    for directory in (layout.state, layout.data, layout.run, layout.log):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    port = _free_port()
    endpoint = Endpoint(url=f"nats://127.0.0.1:{port}", token=secrets.token_urlsafe(24))
    children = [_nats_child(layout, port, endpoint.token, settings.durability)]
    if "scheduler" in need:
        children.append(_scheduler_child(layout, endpoint))
    if "agent" in need:
        children.append(_agent_child(layout, endpoint, settings))
    return SupervisorConfig(
        children=tuple(children),
        ready=Ready(endpoint=endpoint, data_dir=str(layout.data), durability=settings.durability),
        ready_path=str(layout.ready) if shown else "",
        leader="scheduler" in need,
        agents_min=1 if "agent" in need else 0,
        users_path=str(layout.users) if has_users else "",
        remove_path=str(layout.data) if settings.ephemeral else "",
    )


def python_child(name: str, module: str, config: Path, log: Path, *, stop_s: float) -> ChildSpec:
    """Return the child that runs `python -m module --config config`."""
    return ChildSpec(
        name=name,
        # -P: a `queue.py` in the user's directory must not replace the standard library's.
        argv=(sys.executable, "-P", "-m", module, "--config", str(config)),
        log=str(log / f"{name}.log"),
        stop_s=stop_s,
    )


def take_lock(layout: Layout) -> StoreLock | None:
    """Return the right to the directory, or None when somebody else has it."""
    try:
        return StoreLock(layout.state)
    except StoreInUseError:
        return None


def _nats_child(layout: Layout, port: int, token: str, durability: Durability) -> ChildSpec:
    config = layout.state / "nats.conf"
    options = NatsServerOptions(port=port, token=token, durability=durability)
    write_private(config, nats_config_text(layout.data, port, token, options).encode())
    return ChildSpec(
        name="nats",
        argv=(find_nats_server(), "-c", str(config)),
        env=server_environment(),
        log=str(layout.log / "nats.log"),
        keeps_lock=True,
        stop_s=NATS_STOP_S,
    )


def _scheduler_child(layout: Layout, endpoint: Endpoint) -> ChildSpec:
    config = SchedulerConfig(
        endpoint=endpoint, node=agent_name(socket.gethostname()), data_dir=str(layout.data)
    )
    path = layout.run / "scheduler.json"
    write_private(path, msgspec.json.encode(config))
    return python_child(
        "scheduler", "millstream_scheduler", path, layout.log, stop_s=SCHEDULER_STOP_S
    )


def _agent_child(layout: Layout, endpoint: Endpoint, settings: ClusterSettings) -> ChildSpec:
    config = AgentConfig(
        endpoint=endpoint,
        agent=agent_name(socket.gethostname()),
        slots=settings.slots,
        workers=settings.workers,
        capacity=settings.capacity,
        secrets_path=str(layout.state / SECRETS_FILE),
        data_dir=str(layout.data),
        # Who ends a cluster on his desk does not wait for what runs: it is run again next time.
        drain_ms=AGENT_DRAIN_MS,
    )
    path = layout.run / "agent.json"
    write_private(path, msgspec.json.encode(config))
    return python_child("agent", "millstream_executor", path, layout.log, stop_s=AGENT_STOP_S)


def _free_port() -> int:
    for _ in range(_PORT_TRIES_MAX):
        port = random.choice(_PORTS)  # noqa: S311 - a port, not a secret
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ConfigError("port", f"none of {_PORT_TRIES_MAX} ports tried on 127.0.0.1 is free")
