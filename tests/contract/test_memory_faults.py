"""The faults of the log and the bus in memory do what they say, and keep the contract."""

import asyncio

import pytest

from millstream_events import memory_log
from millstream_events.memory import MemoryConnection
from millstream_events.memory_faults import AppendFault, FaultPlan, MessageFault
from millstream_events.ports import Appended, AppendRefused, AppendUnclear, StoreFull

#: Fault of the middle one of three pipelined appends: results, and what is stored afterwards.
CASES = {
    AppendFault.REQUEST_LOST: ([Appended, AppendUnclear, AppendRefused], b"0"),
    AppendFault.ACK_LOST: ([Appended, AppendUnclear, Appended], b"012"),
    AppendFault.ACK_LATE: ([Appended, Appended, Appended], b"012"),
    AppendFault.REFUSED_THOUGH_STORED: ([Appended, AppendRefused, Appended], b"012"),
    AppendFault.DUPLICATE: ([Appended, AppendUnclear, Appended], b"012"),
    AppendFault.GHOST: ([Appended, AppendUnclear, AppendRefused], b"01"),
    AppendFault.FULL: ([Appended, StoreFull, AppendRefused], b"0"),
    AppendFault.CUT_AFTER: ([Appended, AppendUnclear, AppendUnclear], b"01"),
    AppendFault.CUT_BEFORE: ([Appended, AppendUnclear, AppendUnclear], b"0"),
}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(memory_log, "APPEND_DEADLINE_S", 0.02)


@pytest.mark.parametrize("fault", AppendFault, ids=lambda fault: fault.name)
async def test_each_fault_of_an_append_gives_its_results_in_order_and_once(fault):
    connection = MemoryConnection(plan=FaultPlan(appends={1: fault}))
    log = connection.event_log("lo00")
    results: list[tuple[int, type]] = []
    for seq in range(3):
        log.append("a", b"%d" % seq, seq, lambda r, seq=seq: results.append((seq, type(r))))
    async with asyncio.timeout(3):
        while len(results) < 3:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    kinds, stored = CASES[fault]
    assert results == list(enumerate(kinds))
    assert b"".join(entry.payload for entry in await log.read(0)) == stored


@pytest.mark.parametrize("seed", range(20))
async def test_a_seeded_plan_keeps_order_count_and_fence(seed):
    connection = MemoryConnection(plan=FaultPlan.seeded(seed, append_rate=0.2))
    log = connection.event_log("lo00")
    order: list[int] = []
    appended: dict[int, bytes] = {}

    def sink_of(number: int):
        def sink(result) -> None:
            order.append(number)
            if isinstance(result, Appended):
                appended[result.seq] = b"%d" % number

        return sink

    for number in range(60):
        log.append("a", b"%d" % number, number % 7 + log.records.last_seq, sink_of(number))
        if number % 7 == 6:
            await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while len(order) < 60:
            await asyncio.sleep(0.01)
    assert order == list(range(60))
    stored = {entry.seq: entry.payload for entry in await log.read(0)}
    assert appended.items() <= stored.items()
    assert list(stored) == list(range(1, len(stored) + 1))


def test_the_same_seed_gives_the_same_plan():
    plans = [
        FaultPlan.seeded(seed, append_rate=0.1, read_rate=0.1, drop_rate=0.1) for seed in (3, 3, 4)
    ]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


async def test_planned_faults_of_messages_drop_double_and_delay(within):
    plan = FaultPlan(
        messages={1: MessageFault.DROPPED, 2: MessageFault.TWICE, 3: MessageFault.LATE}
    )
    connection = MemoryConnection(plan=plan)
    heard: list[bytes] = []
    connection.bus.subscribe("a", lambda subject, payload: heard.append(payload))
    for number in range(5):
        connection.bus.publish("a", b"%d" % number)
    await within(lambda: len(heard) == 5)
    assert heard == [b"0", b"2", b"2", b"4", b"3"]


async def test_purged_and_foreign_records_are_seen_as_the_real_log_shows_them():
    connection = MemoryConnection()
    log = connection.event_log("lo00")
    for payload in (b"a", b"b", b"c"):
        log.records.add("r", payload)
    log.records.purge(2)
    assert [entry.seq for entry in await log.read(0)] == [1, 3]
    log.records.replace(1, b"flipped")
    assert (await log.read(0))[0].payload == b"flipped"
    log.records.purge(3)
    last = await log.last()
    assert (last.seq, last.key, last.payload) == (3, "", b"")


async def test_a_full_memory_log_says_so_until_there_is_room():
    log = MemoryConnection().event_log("lo00")
    results: list[object] = []
    log.full = True
    log.append("a", b"", 0, results.append)
    await asyncio.sleep(0.01)
    log.full = False
    log.append("a", b"", 0, results.append)
    await asyncio.sleep(0.01)
    assert results == [StoreFull(0), Appended(1)]
