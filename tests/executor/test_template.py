"""A fleet in a process of its own, as an agent has it: on uvloop, and killed without warning."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(
    os.uname().sysname != "Linux", reason="templates and parent-death signals are Linux's"
)

DEADLINE_S = 20.0

AGENT = """
import asyncio, sys, uvloop
from pathlib import Path
from millstream_executor.fleet import Fleet
from millstream_executor.fleet_types import WorkerSpec
from millstream_executor.link import Ready

async def main(cache, stay):
    ready = asyncio.Event()
    pids, ends = {}, {}

    def on_messages(key, messages):
        for message in messages:
            if isinstance(message, Ready):
                pids[key] = message.pid
                if len(pids) == 3:
                    ready.set()

    fleet = Fleet(on_messages, ends.__setitem__, Path(cache))
    await fleet.start()
    for kind in range(3):
        fleet.spawn(str(kind), WorkerSpec(kind=kind, memory_max_bytes=0))
    await ready.wait()
    print(*pids.values(), flush=True)
    if stay == "stay":
        await asyncio.sleep(600)
    await fleet.close()
    print(*sorted(end.reason for end in ends.values()), sep="; ", flush=True)

uvloop.run(main(*sys.argv[1:]))
"""


def agent(cache: Path, stay: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", AGENT, str(cache), stay], stdout=subprocess.PIPE, text=True
    )


def wait_gone(processes: list[psutil.Process]) -> list[psutil.Process]:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        left = [process for process in processes if is_alive(process)]
        if not left:
            return []
        time.sleep(0.01)
    return left


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_fleet_closes_without_a_trace_on_uvloop(tmp_path: Path) -> None:
    with agent(tmp_path, "go") as process:
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    pids, reasons = out.splitlines()
    assert reasons == "; ".join(["the agent ends"] * 3)
    assert not any(psutil.pid_exists(int(pid)) for pid in pids.split())


def test_workers_and_templates_die_with_an_agent_that_is_killed(tmp_path: Path) -> None:
    with agent(tmp_path, "stay") as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        tree = psutil.Process(process.pid).children(recursive=True)
        assert {int(pid) for pid in pids} < {child.pid for child in tree}
        process.send_signal(signal.SIGKILL)
    assert wait_gone(tree) == []
