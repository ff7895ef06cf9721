"""Many identical calls of many runs at once, and `kill -9` of each part while one computes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dev_tree import DevTree, assert_audit_is_clean, dev_tree, events_of, fold_all, whole_log

from millstream_events import model as m
from millstream_events.connect import Connection
from millstream_events.state import ShardState

pytestmark = [pytest.mark.chaos, pytest.mark.alone]

RUNS, WIDTH = 8, 5
PROGRAM = """
import asyncio, json, os, sys, uuid
import millstream
from flow import mark

env = millstream.TaskEnvironment("stampede")

@env.task(cache=millstream.Cache("auto", serialize=True), retries=0)
async def token(n: int, seconds: float) -> str:
    mark(f"token-{n}")
    await asyncio.sleep(seconds)
    return uuid.uuid4().hex

@env.task
async def crowd(width: int, seconds: float) -> list[str]:
    return list(await asyncio.gather(*(token(1, seconds) for _ in range(width))))

async def main(runs: int, width: int, seconds: float) -> None:
    millstream.init()
    async def one() -> list[str]:
        return await (await millstream.run.aio(crowd, width, seconds)).result.aio()
    ended = await asyncio.gather(*(one() for _ in range(runs)), return_exceptions=True)
    print(json.dumps([None if isinstance(each, Exception) else each for each in ended]))

if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[DevTree]:
    (tmp_path / "stampede.py").write_text(PROGRAM)
    with dev_tree(tmp_path) as running:
        yield running


async def wait_until(
    tree: DevTree, connection: Connection, calls: int, deadline_s: float = 30
) -> ShardState:
    """Wait until one body runs and so many calls wait for it."""
    async with asyncio.timeout(deadline_s):
        while True:
            state = fold_all(await whole_log(connection))
            waiting = sum(
                action.why_held == "cache" for run in state.runs.values() for action in run.actions
            )
            if waiting >= calls and tree.executions():
                return state
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("victim", ["nobody", "scheduler", "agent", "worker", "owner"])
async def test_one_body_runs_for_all_whatever_dies(tree: DevTree, victim: str) -> None:
    # The abort comes from a process of its own, which takes a while to begin.
    seconds = 6.0 if victim == "owner" else 1.5
    client = subprocess.Popen(
        [sys.executable, "stampede.py", str(RUNS), str(WIDTH), str(seconds)],
        cwd=tree.folder, env=tree.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    async with tree.connected() as connection:
        state = await wait_until(tree, connection, RUNS * WIDTH - 1)
        if victim == "worker":
            for pid in tree.workers():
                os.kill(pid, signal.SIGKILL)
        elif victim == "owner":
            (flight,) = state.flights.values()
            tree.run("abort", "action", flight.run, f"a{flight.action}")
        elif victim != "nobody":
            tree.kill(victim)
        out, err = client.communicate(timeout=60)
        entries = await whole_log(connection)
    assert_audit_is_clean(entries)
    reservations = [each for _, _, each in events_of(entries) if isinstance(each, m.CacheReserved)]
    bodies = tree.executions()["token-1"]
    assert client.returncode == 0, err
    found = json.loads(out)
    assert len({token for one in found if one for token in one}) == 1
    if victim == "owner":
        # Its run fails with the call that was aborted; the next may be another call of that
        # run, which ends with it.
        assert found.count(None) == 1
        assert 2 <= bodies <= len(reservations) <= 3
        return
    assert None not in found
    assert len(reservations) == 1
    assert bodies == (1 if victim in ("nobody", "scheduler") else 2)
