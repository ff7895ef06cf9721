"""A local cluster with its real parts: who owns it, who joins, what comes back, what ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from millstream._cluster import ClusterHandle, ensure_cluster, find_cluster
from millstream._cluster_files import layout_of
from millstream._cluster_probe import describe, open_probe
from millstream_events.connect import connect
from millstream_events.errors import BusDeniedError, BusUnavailableError, StoreInUseError
from millstream_events.nats_server import StoreLock

pytestmark = pytest.mark.alone

STARTER = """
import asyncio, json, pathlib, sys
from millstream._cluster import ensure_cluster

async def main():
    need = tuple(filter(None, sys.argv[2].split(",")))
    handle = await ensure_cluster(pathlib.Path(sys.argv[1]), need=need)
    print(json.dumps([handle.owned, handle.endpoint.url, handle.pids.dev]), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await handle.close()

asyncio.run(main())
"""


@asynccontextmanager
async def a_cluster(
    directory: Path, *, need: tuple[str, ...] = ("scheduler", "agent")
) -> AsyncIterator[ClusterHandle]:
    handle = await ensure_cluster(directory, need=need)
    try:
        yield handle
    finally:
        await handle.close()


def start(directory: Path, need: str = "scheduler,agent") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(directory), need],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def answer_of(starter: "subprocess.Popen[str]") -> tuple[bool, str, int | None]:
    assert starter.stdout is not None
    owned, url, dev = json.loads(starter.stdout.readline())
    return owned, url, dev


async def until(what: Callable[[], Awaitable[bool] | bool], deadline_s: float = 15.0) -> None:
    end_s = time.monotonic() + deadline_s
    while True:
        found = what()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < end_s, "not within the deadline"
        await asyncio.sleep(0.01)


def tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


async def agents_of(handle: ClusterHandle) -> int:
    try:
        shard = await describe(handle.endpoint, deadline_s=0.5)
    except BusUnavailableError:
        return 0
    return 0 if shard is None else len(shard.agents)


async def leads(handle: ClusterHandle) -> bool:
    try:
        return await describe(handle.endpoint, deadline_s=0.5) is not None
    except BusUnavailableError:
        return False


async def works(handle: ClusterHandle) -> bool:
    return await agents_of(handle) > 0


async def test_a_new_cluster_has_a_leader_and_an_agent_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    async with a_cluster(tmp_path) as handle:
        assert handle.owned
        await until(lambda: works(handle))
        await until(lambda: handle.pids.agent is not None)
        ready = await find_cluster(tmp_path)
        assert ready is not None
        assert ready.endpoint == handle.endpoint
        assert ready.pids.dev is not None
        processes = tree(ready.pids.dev)
        assert len(processes) >= 4
    assert all_gone(processes)
    assert not layout_of(tmp_path).ready.exists()


async def test_one_of_four_starters_owns_the_cluster_and_the_others_join_it(
    tmp_path: Path,
) -> None:
    for _ in range(3):
        starters = [start(tmp_path, "scheduler") for _ in range(4)]
        answers = [await asyncio.to_thread(answer_of, one) for one in starters]
        assert sorted(owned for owned, _, _ in answers) == [False, False, False, True]
        assert len({url for _, url, _ in answers}) == 1
        for one in starters:
            await asyncio.to_thread(one.communicate, "\n")
        assert [one.returncode for one in starters] == [0, 0, 0, 0]
        # The lock is free once the last of owner and server is gone.
        await until(lambda: lock_is_free(tmp_path))


def lock_is_free(directory: Path) -> bool:
    try:
        StoreLock(layout_of(directory).state).release()
    except StoreInUseError:
        return False
    return True


async def test_a_cluster_outlives_its_starter_while_somebody_else_uses_it(tmp_path: Path) -> None:
    owner = start(tmp_path, "scheduler")
    owned, _, _ = await asyncio.to_thread(answer_of, owner)
    assert owned
    async with a_cluster(tmp_path, need=("scheduler",)) as joined:
        assert not joined.owned
        dev = joined.pids.dev
        assert dev is not None
        processes = tree(dev)
        owner.kill()
        await asyncio.to_thread(owner.communicate)
        await asyncio.sleep(0.5)
        assert not any(not one.is_running() for one in processes)
        assert await describe(joined.endpoint) is not None
    await until(lambda: all_gone(processes))


async def test_a_cluster_dies_with_its_killed_starter(tmp_path: Path) -> None:
    owner = start(tmp_path)
    _, _, dev = await asyncio.to_thread(answer_of, owner)
    assert dev is not None
    await until(lambda: layout_of(tmp_path).ready.exists())
    processes = tree(dev)
    assert len(processes) >= 4
    owner.kill()
    await asyncio.to_thread(owner.communicate)
    await until(lambda: all_gone(processes), 8.0)


@pytest.mark.parametrize("part", ["nats", "scheduler", "agent"])
async def test_a_killed_part_comes_back_and_the_cluster_works_again(
    tmp_path: Path, part: str
) -> None:
    async with a_cluster(tmp_path) as handle:
        await until(lambda: layout_of(tmp_path).ready.exists())
        before = getattr(handle.pids, part)
        os.kill(before, signal.SIGKILL)
        await until(lambda: getattr(handle.pids, part) not in (before, None))
        await until(lambda: works(handle))
        (await open_probe(handle.endpoint)).close()


async def test_a_killed_supervisor_takes_its_children_along_and_the_next_owner_starts_anew(
    tmp_path: Path,
) -> None:
    async with a_cluster(tmp_path) as handle:
        await until(lambda: layout_of(tmp_path).ready.exists())
        dev = handle.pids.dev
        assert dev is not None
        processes = tree(dev)
        os.kill(dev, signal.SIGKILL)
        await until(lambda: all_gone(processes), 3.0)
        # ready.json is stale now: found out by connecting.
        assert layout_of(tmp_path).ready.exists()
        assert await find_cluster(tmp_path) is None
        async with a_cluster(tmp_path, need=("scheduler",)) as second:
            assert second.owned
            assert second.endpoint != handle.endpoint


async def test_what_the_log_holds_is_there_again_for_a_reader_without_a_scheduler(
    tmp_path: Path,
) -> None:
    async with a_cluster(tmp_path, need=("scheduler",)) as handle:
        await until(lambda: leads(handle))
    async with a_cluster(tmp_path, need=()) as reader:
        # Nobody is to join a cluster in which nobody works.
        assert not layout_of(tmp_path).ready.exists()
        connection = await connect(reader.endpoint, name="test")
        last = await connection.event_log(reader.endpoint.shard_name).last()
        await connection.close()
        assert last is not None


async def test_a_wrong_token_is_refused_at_once(tmp_path: Path) -> None:
    import msgspec

    async with a_cluster(tmp_path, need=()) as handle:
        stranger = msgspec.structs.replace(handle.endpoint, token="wrong")
        with pytest.raises(BusDeniedError):
            await open_probe(stranger)


async def test_an_ephemeral_cluster_keeps_nothing(tmp_path: Path) -> None:
    handle = await ensure_cluster(tmp_path, ephemeral=True, need=("scheduler",))
    data_dir = handle.data_dir
    assert data_dir.is_dir()
    await handle.close()
    assert not data_dir.exists()
    assert not layout_of(tmp_path).store.exists()


async def test_an_owner_that_answers_nobody_is_named(tmp_path: Path) -> None:
    lock = StoreLock(layout_of(tmp_path).state)
    try:
        with pytest.raises(StoreInUseError, match="is in use by"):
            await ensure_cluster(tmp_path, deadline_s=0.3)
    finally:
        lock.release()
