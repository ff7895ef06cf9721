"""`python -m millstream_scheduler.snapshot` against a real server."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from millstream_events import model as m
from millstream_events.clock import SystemClock
from millstream_events.connect import Connection
from millstream_events.fold import apply
from millstream_events.ids import new_run_id
from millstream_events.nats_server import NatsServer
from millstream_events.ports import Appended, AppendResult
from millstream_events.seal import seal
from millstream_events.state import RunState, ShardState, state_hash
from millstream_events.values import TaskRef
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.snapshot import NICE, load_for, snapshot_path
from millstream_scheduler.takeover import catch_up, elect

SHARD = "lo00"


async def write_runs(connection: Connection, state: ShardState, numbers: range) -> None:
    """Record new runs and wait until they are durable."""
    results: list[AppendResult] = []
    log = connection.event_log(SHARD)
    for number in numbers:
        run_id = new_run_id(now_ms=1_700_000_000_000 + number, random_bits=number)
        run = state.runs[run_id] = RunState(run_id)
        event = m.RunCreated(0, run=run_id, task=TaskRef("t"))
        apply(state, run, event, state.ts_ns)
        for frame in seal(state, {run_id: [event]}, [], now_ns=state.ts_ns):
            log.append(frame.key, frame.payload, frame.expected_seq, results.append)
    async with asyncio.timeout(10):
        while len(results) < len(numbers):
            await asyncio.sleep(0.01)
    assert all(isinstance(result, Appended) for result in results)


async def run_snapshot(config_path: Path) -> tuple[int, str]:
    """Run the process; return the sequence and the state hash that it prints."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "millstream_scheduler.snapshot", str(config_path)),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        printed, _ = await program.communicate()
    assert program.returncode == 0
    seq, digest = printed.decode().split()
    return int(seq), digest


async def test_the_snapshot_process_follows_the_log_and_survives_the_loss_of_its_file(
    nats: NatsServer, connection: Connection, tmp_path: Path
) -> None:
    config = SchedulerConfig(endpoint=nats.endpoint, node="n", data_dir=str(tmp_path))
    config_path = tmp_path / "scheduler.json"
    config_path.write_bytes(msgspec.json.encode(config))
    path = snapshot_path(config.data_dir, SHARD)
    state = ShardState(SHARD)
    log = connection.event_log(SHARD)
    await elect(log, state, node="n", clock=SystemClock())
    for numbers in (range(50), range(50, 60)):
        await write_runs(connection, state, numbers)
        assert await run_snapshot(config_path) == (state.seq, state_hash(state).hex())
    loaded = await load_for(path, log, SHARD)
    assert loaded.seq == state.seq
    path.write_bytes(b"torn")
    anew = await load_for(path, log, SHARD)
    assert anew.seq == 0
    assert await catch_up(log, anew) == state.seq
    assert state_hash(anew) == state_hash(state) == state_hash(loaded)
    assert await run_snapshot(config_path) == (state.seq, state_hash(state).hex())


def test_everybody_else_goes_before_a_snapshot() -> None:
    program = "import os; from millstream_scheduler import snapshot as s; s.step_back(); "
    shown = subprocess.run(
        [sys.executable, "-c", f"{program}print(os.nice(0))"],
        capture_output=True, check=True, start_new_session=True,
    ).stdout  # fmt: skip
    assert int(shown) == min(19, os.nice(0) + NICE)
