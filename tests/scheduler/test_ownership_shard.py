"""Scheduler processes that share a shard: one leads, the next takes over, none dies of a fault."""

import asyncio
from pathlib import Path

from leader_rig import SHARD, Rig, ScriptAgent, ScriptClient, until
from set_time import LoopClock

from millstream_events.endpoint import Endpoint
from millstream_events.memory import MemoryConnection
from millstream_events.phases import Phase
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.shard import ShardOwner

TIMES = {"lease_renew_ms": 20, "lease_giveup_ms": 120, "lease_ms": 160}


class Node:
    """One scheduler process, without the process."""

    def __init__(self, rig: Rig, name: str, data_dir: Path) -> None:
        config = SchedulerConfig(
            endpoint=Endpoint(url=""), node=name, data_dir=str(data_dir), **TIMES
        )
        self.connection: MemoryConnection = rig.connection.peer()
        owner = ShardOwner(self.connection, LoopClock(), config, data_dir)  # type: ignore[arg-type]  # the same port, in memory
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(owner.run(self.stop))

    async def end(self) -> None:
        self.stop.set()
        async with asyncio.timeout(2):
            await self.task


async def test_a_node_that_stops_hands_over_at_once_and_the_run_goes_on(tmp_path: Path) -> None:
    rig = Rig()
    first = Node(rig, "n1", tmp_path)
    await until(lambda: rig.replayed().leader == "n1")
    second = Node(rig, "n2", tmp_path)
    ScriptAgent(rig)
    client = ScriptClient(rig)
    await asyncio.sleep(0.05)
    await first.end()
    await until(lambda: rig.replayed().leader == "n2", deadline_s=0.15)
    client.submit()
    await until(lambda: client.released)
    assert client.released[0].phase == Phase.SUCCEEDED
    await second.end()


async def test_a_node_that_dies_is_replaced_and_a_newcomer_stands_by(
    tmp_path: Path,
) -> None:
    rig = Rig()
    first = Node(rig, "n1", tmp_path)
    await until(lambda: rig.replayed().leader == "n1")
    second = Node(rig, "n2", tmp_path)
    client = ScriptClient(rig)
    ScriptAgent(rig)
    # Dies without resigning: its lease has to run out.
    first.task.cancel()
    await until(lambda: rig.replayed().leader == "n2", deadline_s=2)
    client.submit()
    await until(lambda: client.released)
    third = Node(rig, "n3", tmp_path)
    await asyncio.sleep(0.3)
    assert rig.replayed().leader == "n2"
    await third.end()
    await second.end()


async def test_a_node_without_room_for_its_election_waits_for_it(tmp_path: Path) -> None:
    rig = Rig()
    node = Node(rig, "n1", tmp_path)
    node.connection.event_log(SHARD).full = True
    await asyncio.sleep(0.3)
    assert not node.task.done()
    assert rig.records.last_seq == 0
    node.connection.event_log(SHARD).full = False
    await until(lambda: rig.replayed().leader == "n1")
    await node.end()


async def test_a_node_whose_snapshot_is_torn_leads_all_the_same(tmp_path: Path) -> None:
    rig = Rig()
    path = tmp_path / "snap" / f"{SHARD}.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"torn")
    node = Node(rig, "n1", tmp_path)
    await until(lambda: rig.replayed().leader == "n1")
    await node.end()
