"""`millstream start ...`: one part of a larger installation, in the foreground."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import msgspec
from cyclopts import Parameter

from millstream._cluster import find_cluster
from millstream._cluster_files import (
    SECRETS_FILE,
    STATE_DIR,
    endpoint_of_url,
    url_of_endpoint,
)
from millstream._cluster_private import write_private
from millstream.cli.capacity import capacity_of
from millstream.cli.outcome import DONE, FAILED, UsageError
from millstream.cli.output import DEFAULTS, OutputOptions, emit_one
from millstream.cli.reach import place_here
from millstream_events.endpoint import Endpoint
from millstream_events.errors import ClusterNotReachedError
from millstream_events.nats_server import NatsServerOptions, start_nats_server
from millstream_events.ports import Durability
from millstream_executor.config import AgentConfig, agent_name
from millstream_scheduler.config import SchedulerConfig

_Nats = Annotated[str, Parameter(name="--nats")]


def start_nats(
    *,
    port: int = 4222,
    data_dir: Path | None = None,
    durability: Durability = "interval",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Run a nats-server for Millstream on this machine's loopback.

    Args:
        port: Where it listens.
        data_dir: Where its streams lie; .millstream/server if it is not given.
        durability: What an acknowledged event survives: process, interval or disk.
        common: Options of every command.
    """
    directory = data_dir or place_here().project_dir / STATE_DIR / "server"
    server = start_nats_server(directory, NatsServerOptions(port=port, durability=durability))

    def told(number: int, frame: FrameType | None) -> None:
        del number, frame
        server.process.terminate()

    signal.signal(signal.SIGTERM, told)
    signal.signal(signal.SIGINT, told)
    emit_one(
        {
            "nats": url_of_endpoint(server.endpoint),
            "data_dir": str(directory),
            "durability": durability,
            "pids": {"nats": server.pid},
        },
        common.output,
        name="nats",
    )
    status = server.process.wait()
    server.stop()
    return DONE if status in (0, 1, -signal.SIGTERM) else FAILED


def start_scheduler(
    *,
    nats: _Nats = "",
    node: str = "",
    data_dir: Path | None = None,
    common: OutputOptions = DEFAULTS,
) -> NoReturn:
    """Run a scheduler: it leads the shard, or stands by for the one that does.

    Args:
        nats: nats://TOKEN@host:port; the configured one, or this directory's, if not given.
        node: Name in elections; unique among schedulers.
        data_dir: Where snapshots lie; .millstream if it is not given.
        common: Options of every command.
    """
    del common
    directory = data_dir or place_here().project_dir / STATE_DIR
    name = node or f"{agent_name(socket.gethostname())}-{os.getpid()}"
    config = SchedulerConfig(endpoint=_endpoint(nats), node=name, data_dir=str(directory.resolve()))
    _become("millstream_scheduler", directory / "run" / f"scheduler-{name}.json", config)


def start_pool(
    *,
    name: str = "default",
    agent: str = "",
    region: str = "",
    cluster: str = "",
    labels: Annotated[str, Parameter(name=("--labels", "--label"))] = "",
    slots: int = 0,
    workers: int = 0,
    memory: str = "",
    cpu: str = "",
    gpu: str = "",
    disk: str = "",
    shm: str = "",
    nats: _Nats = "",
    data_dir: Path | None = None,
    common: OutputOptions = DEFAULTS,
) -> NoReturn:
    """Run an agent on this machine, as a member of a pool.

    Args:
        name: The pool.
        agent: Name of the agent, the same after a restart; from the host's and the pool's names
            if it is not given.
        region: Region that the machine is in.
        cluster: Cluster that the machine belongs to.
        labels: What tasks may select by: key=value,key=value. With interruptible=true the machine
            may vanish: it gets the tasks that may be interrupted.
        slots: Actions at once; 0: one for each CPU.
        workers: Warm workers; 0: one for each CPU.
        memory: Memory for tasks, like 24Gi; any if it is not given.
        cpu: Processors that a task may ask for; any if it is not given.
        gpu: Accelerators, like 2 or A100:2; any if it is not given.
        disk: Disk for tasks, like 100Gi; any if it is not given.
        shm: Shared memory for tasks; any if it is not given.
        nats: nats://TOKEN@host:port; the configured one, or this directory's, if not given.
        data_dir: Where caches and unsent reports lie; .millstream if it is not given.
        common: Options of every command.
    """
    del common
    directory = data_dir or place_here().project_dir / STATE_DIR
    pairs = parse_labels(labels)
    config = AgentConfig(
        endpoint=_endpoint(nats),
        agent=agent or agent_name(f"{socket.gethostname()}-{name}"),
        pool=name,
        region=region,
        cluster=cluster,
        labels=pairs,
        slots=slots,
        workers=workers,
        capacity=capacity_of(memory=memory, cpu=cpu, gpu=gpu, disk=disk, shm=shm),
        secrets_path=str(directory.resolve() / SECRETS_FILE),
        data_dir=str(directory.resolve()),
    )
    _become("millstream_executor", directory / "run" / f"agent-{config.agent}.json", config)


def parse_labels(text: str) -> tuple[tuple[str, str], ...]:
    """Return the labels that `key=value,key=value` names, sorted.

    Raises:
        UsageError: One is no pair.
    """
    labels: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise UsageError(f"the label {part!r} is not key=value")
        labels[key] = value
    return tuple(sorted(labels.items()))


def _endpoint(url: str) -> Endpoint:
    if url:
        return endpoint_of_url(url)
    place = place_here()
    named = place.settings.where()
    if named is not None:
        return named
    ready = asyncio.run(find_cluster(place.project_dir))
    if ready is None:
        raise ClusterNotReachedError(str(place.project_dir), "none runs there, and no --nats")
    return ready.endpoint


def _become(module: str, path: Path, config: msgspec.Struct) -> NoReturn:
    """Turn this process into `python -m module`, so that signals reach it as they are sent."""
    write_private(path, msgspec.json.encode(config))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, "--config", str(path)])  # noqa: S606
