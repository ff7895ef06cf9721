"""`millstream dev`: a whole cluster on this machine, supervised."""

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from millstream._cluster import find_cluster, start_detached, wait_ready
from millstream._cluster_files import Ready, layout_of, url_of_endpoint
from millstream._cluster_start import ClusterSettings, plan_cluster, take_lock
from millstream._supervisor import supervise
from millstream._views import View
from millstream.cli.capacity import capacity_of
from millstream.cli.outcome import DONE
from millstream.cli.output import DEFAULTS, OutputOptions, emit_one, tell
from millstream.cli.reach import place_here
from millstream_events.errors import StoreInUseError
from millstream_events.nats_server import StoreLock
from millstream_events.ports import Durability

#: Longest wait for a command that reads the log to let go of it.
_LOCK_S: Final = 3.0
_LOOK_S: Final = 0.05

_Flag = Annotated[bool, Parameter(negative="")]


def dev(
    *,
    ephemeral: _Flag = False,
    detach: _Flag = False,
    slots: int = 0,
    workers: int = 0,
    durability: Durability = "interval",
    memory: str = "",
    cpu: str = "",
    gpu: str = "",
    disk: str = "",
    shm: str = "",
    no_console: Annotated[bool, Parameter(name="--no-console", negative="")] = False,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Run a cluster for this directory until Ctrl-C: server, scheduler and agent.

    What dies is started again. Data stays in .millstream/.

    Args:
        ephemeral: Keep nothing.
        detach: Return once it is ready, and leave it running.
        slots: Actions at once; 0: one for each CPU.
        workers: Warm workers; 0: as many as suit.
        durability: What an acknowledged event survives: process, interval or disk.
        memory: Memory for tasks, like 24Gi; any if it is not given.
        cpu: Processors that a task may ask for; any if it is not given.
        gpu: Accelerators, like 2 or A100:2; any if it is not given.
        disk: Disk for tasks, like 100Gi; any if it is not given.
        shm: Shared memory for tasks; any if it is not given.
        no_console: Without the web console.
        common: Options of every command.
    """
    del no_console  # This version has none to leave out.
    project_dir = place_here().project_dir
    settings = ClusterSettings(
        slots=slots,
        workers=workers,
        durability=durability,
        ephemeral=ephemeral,
        capacity=capacity_of(memory=memory, cpu=cpu, gpu=gpu, disk=disk, shm=shm),
    )
    if detach:
        return _detached(project_dir, settings, common)
    layout = layout_of(project_dir, ephemeral=ephemeral)
    lock = _lock(project_dir)
    config = plan_cluster(layout, settings, has_users=False)

    def on_ready(ready: Ready) -> None:
        _show(ready, common)
        tell("ready; Ctrl-C ends it")

    supervise(config, lock_fd=lock.descriptor, on_ready=on_ready)
    lock.release()
    return DONE


def _detached(project_dir: Path, settings: ClusterSettings, common: OutputOptions) -> int:
    running = asyncio.run(find_cluster(project_dir))
    if running is not None and running.pids.dev is not None:
        tell(f"runs already (process {running.pids.dev})")
        _show(running, common)
        return DONE
    _lock(project_dir).release()
    supervisor = start_detached(project_dir, settings)
    _show(asyncio.run(wait_ready(project_dir, supervisor)), common)
    # It outlives us on purpose; nobody is to warn about a child that was not waited for.
    supervisor.returncode = 0
    return DONE


def _lock(project_dir: Path) -> StoreLock:
    layout = layout_of(project_dir)
    end_s = time.monotonic() + _LOCK_S
    while time.monotonic() < end_s:
        lock = take_lock(layout)
        if lock is not None:
            return lock
        if layout.ready.exists() and asyncio.run(find_cluster(project_dir)) is not None:
            break
        time.sleep(_LOOK_S)
    owner = "another process"
    with contextlib.suppress(OSError, msgspec.DecodeError):
        pid = msgspec.json.decode(layout.ready.read_bytes(), type=Ready).pids.dev
        owner = f"process {pid}" if pid != os.getpid() else owner
    raise StoreInUseError(str(layout.state), owner)


def _show(ready: Ready, common: OutputOptions) -> None:
    emit_one(dev_view(ready), common.output, name="nats")


def dev_view(ready: Ready) -> View:
    """Return a cluster as `millstream dev -o json` prints it."""
    pids = ready.pids
    return {
        "nats": url_of_endpoint(ready.endpoint),
        "console": ready.console,
        "token": ready.token,
        "data_dir": ready.data_dir,
        "durability": ready.durability,
        "pids": {
            "dev": pids.dev,
            "nats": pids.nats,
            "scheduler": pids.scheduler,
            "agent": pids.agent,
            "console": pids.console,
        },
    }
