"""Leaders killed, frozen and started from broken snapshots: one history, whoever writes it."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fault_flow as flow
import pytest
from parts import SHARD, Parts, parts, record

from millstream_events import model as m
from millstream_events.state import ShardState, state_hash
from millstream_scheduler.snapshot import load_for, snapshot_path
from millstream_scheduler.takeover import catch_up

pytestmark = pytest.mark.chaos

KILLS = 10


async def epochs(made: Parts) -> list[int]:
    """Return the epochs of all elections, in the order of the log."""
    return [event.epoch for event in await made.events() if isinstance(event, m.LeaderElected)]


async def test_ten_leaders_killed_in_a_row_are_replaced_within_3_s_each(tmp_path: Path) -> None:
    length = 3 * KILLS + 5
    async with parts(tmp_path, schedulers=2) as made:
        await made.warm(flow.chain, 0)
        run = await made.submit(flow.chain, length, 0.03)
        done = 2
        took_s: list[float] = []
        for _ in range(KILLS):
            done = (await made.until(run, lambda state, n=done: state.succeeded >= n)).succeeded  # type: ignore[misc]
            leader = await made.leader()
            done = (await made.until(run, lambda state, n=done: state.succeeded >= n)).succeeded  # type: ignore[misc]
            leader.kill()
            killed_s = time.monotonic()
            leader.start()
            seen = (await made.until(run, lambda state: state.rev > 0)).succeeded
            await made.until(run, lambda state, n=seen: state.succeeded > n)  # type: ignore[misc]
            took_s.append(time.monotonic() - killed_s)
            done = seen + 2
        record("kill -9 of the leader, standby there, worst of 10", max(took_s))
        print("takeovers:", ", ".join(f"{each:.2f}" for each in sorted(took_s)))
        assert await made.result(flow.chain, run) == sum(n * n for n in range(length))
        assert max(took_s) <= 3, took_s
        assert set(made.executions("leaf-").values()) == {1}
        await made.audited()
        found = await epochs(made)
        assert found == sorted(set(found))
        assert len(found) > KILLS


async def test_a_frozen_leader_that_wakes_up_is_refused_and_obeyed_by_nobody(
    tmp_path: Path,
) -> None:
    width = 400
    async with parts(tmp_path, schedulers=2) as made:
        await made.warm(flow.fan, 1)
        run = await made.submit(flow.fan, width, 0.03)
        for number in range(3):
            await made.until(run, lambda state, n=number: state.succeeded > 20 * (n + 1))  # type: ignore[misc]
            zombie = await made.leader()
            zombie.freeze()
            frozen_s = time.monotonic()
            election = len(await epochs(made))
            while len(await epochs(made)) <= election:
                assert time.monotonic() - frozen_s < 10
                await asyncio.sleep(0.05)
            seen = (await made.until(run, lambda state: state.rev > 0)).succeeded
            await made.until(run, lambda state, n=seen: state.succeeded > n)  # type: ignore[misc]
            record("SIGSTOP of the leader, standby there", time.monotonic() - frozen_s)
            zombie.thaw()
            woken_s = time.monotonic()
            said = zombie.printed.count("leader_deposed") + zombie.printed.count("lease_lost")
            while (
                zombie.printed.count("leader_deposed") + zombie.printed.count("lease_lost")
                <= number // 2
                and said <= number // 2
            ):
                assert time.monotonic() - woken_s < 5, zombie.printed
                await asyncio.sleep(0.02)
            print(f"the zombie stood down after {time.monotonic() - woken_s:.2f} s")
            assert (await made.leader()) is not zombie
        assert await made.result(flow.fan, run) == sum(n * n for n in range(width))
        counts = made.executions("leaf-")
        counts.pop("leaf-0")
        assert set(counts.values()) == {1}, {k: v for k, v in counts.items() if v > 1}
        await made.audited()
        found = await epochs(made)
        assert found == sorted(set(found))


def delete(path: Path, older: Path) -> None:
    path.unlink()


def truncate(path: Path, older: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, older: Path) -> None:
    content = bytearray(path.read_bytes())
    for at in range(4096, len(content), 997):
        content[at] ^= 0x41
    path.write_bytes(bytes(content))


def replace_by_text(path: Path, older: Path) -> None:
    path.write_text("this is no database\n" * 100)


def replace_by_older(path: Path, older: Path) -> None:
    shutil.copy(older, path)


def take_snapshot(made: Parts) -> Path:
    """Have the scheduler's own program bring its snapshot up to date."""
    subprocess.run(
        [sys.executable, "-m", "millstream_scheduler.snapshot", str(made.folder / "s0.json")],
        check=True,
        capture_output=True,
        timeout=20,
    )
    path = snapshot_path(str(made.folder / "s0"), SHARD)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return path


async def test_a_leader_with_a_broken_snapshot_has_the_state_that_the_log_says(
    tmp_path: Path,
) -> None:
    wounds: list[Callable[[Path, Path], None]] = [
        delete,
        truncate,
        flip,
        replace_by_text,
        replace_by_older,
    ]
    async with parts(tmp_path) as made:
        await made.warm(flow.chain, 2)
        older = tmp_path / "older.sqlite"
        shutil.copy(take_snapshot(made), older)
        for wound in wounds:
            run = await made.submit(flow.chain, 8, 0.03)
            await made.until(run, lambda state: state.succeeded >= 2)
            path = take_snapshot(made)
            made.schedulers[0].kill()
            killed_s = time.monotonic()
            wound(path, older)
            loaded = await load_for(path, made.client.log, SHARD)
            await catch_up(made.client.log, loaded)
            folded = ShardState(SHARD)
            await catch_up(made.client.log, folded)
            assert state_hash(loaded) == state_hash(folded)
            seen = (await made.until(run, lambda state: state.rev > 0)).succeeded
            made.schedulers[0].start()
            await made.until(run, lambda state, n=seen: state.succeeded > n)  # type: ignore[misc]
            record(f"kill -9 of the only scheduler, snapshot: {wound.__name__}",
                   time.monotonic() - killed_s)
            assert await made.result(flow.chain, run) == sum(n * n for n in range(8))
        await made.audited()
