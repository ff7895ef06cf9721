"""`EventLog`: what every adapter promises."""

import asyncio
from contextlib import aclosing

import pytest

from millstream_events.codec import MESSAGE_BYTES_MAX
from millstream_events.errors import LogUnavailableError, PayloadTooLargeError
from millstream_events.gates import Gates, gate_name
from millstream_events.ports import (
    APPEND_DEADLINE_S,
    READ_DEADLINE_S,
    Appended,
    AppendRefused,
    AppendResult,
    AppendUnclear,
    EventLog,
    LogEntry,
)
from millstream_events.subjects import SHARD_KEY, ack_subject

pytestmark = pytest.mark.alone


async def put(log: EventLog, key: str, payload: bytes, expected_seq: int) -> AppendResult:
    answered: asyncio.Future[AppendResult] = asyncio.get_running_loop().create_future()
    log.append(key, payload, expected_seq, answered.set_result)
    async with asyncio.timeout(APPEND_DEADLINE_S + 1):
        return await answered


async def fill(log: EventLog, keys: str) -> None:
    for seq, key in enumerate(keys):
        assert await put(log, key, f"{key}{seq + 1}".encode(), seq) == Appended(seq + 1)


async def readable(log: EventLog) -> LogEntry | None:
    """Return the last record, once the log answers again."""
    async with asyncio.timeout(5):
        while True:
            try:
                return await log.last()
            except LogUnavailableError:
                await asyncio.sleep(0.01)


def brief(entries: object) -> list[tuple[int, str, bytes]]:
    return [(entry.seq, entry.key, entry.payload) for entry in entries]


async def test_an_empty_log_has_no_last_record_and_reads_as_nothing(rig):
    log = (await rig.connect()).event_log(rig.shard)
    assert await log.last() is None
    assert await log.read(0) == []
    assert await log.read(0, key="r1") == []


async def test_a_record_is_stored_at_the_sequence_that_the_sink_is_told(rig):
    log = (await rig.connect()).event_log(rig.shard)
    assert await put(log, SHARD_KEY, b"", 0) == Appended(1)
    assert await put(log, "r1", b"\x00two\xff", 1) == Appended(2)
    last = await log.last()
    assert (last.seq, last.key, last.payload) == (2, "r1", b"\x00two\xff")
    assert last.stored_ns > 1_600_000_000 * 10**9
    assert brief(await log.read(0)) == [(1, SHARD_KEY, b""), (2, "r1", b"\x00two\xff")]


@pytest.mark.parametrize("expected_seq", [0, 1, 3, 99])
async def test_the_fence_refuses_every_expectation_but_the_last_sequence(rig, expected_seq):
    log = (await rig.connect()).event_log(rig.shard)
    await fill(log, "ab")
    assert await put(log, "a", b"x", expected_seq) == AppendRefused(expected_seq)
    assert len(await log.read(0)) == 2


async def test_of_two_writers_with_the_same_expectation_one_wins(rig):
    first = (await rig.connect()).event_log(rig.shard)
    second = (await rig.connect()).event_log(rig.shard)
    results = await asyncio.gather(*(put(log, "a", b"x", 0) for log in (first, second)))
    assert sorted(type(result).__name__ for result in results) == ["AppendRefused", "Appended"]
    assert len(await first.read(0)) == 1


async def test_pipelined_appends_are_answered_once_each_and_in_order(rig, within):
    log = (await rig.connect()).event_log(rig.shard)
    results: list[tuple[int, AppendResult]] = []
    for seq in range(300):
        log.append("a", b"x", seq, lambda result, seq=seq: results.append((seq, result)))
    assert results == []
    await within(lambda: len(results) >= 300)
    await asyncio.sleep(0.05)
    assert results == [(seq, Appended(seq + 1)) for seq in range(300)]


async def test_what_lands_of_a_pipeline_is_a_prefix(rig, within):
    log = (await rig.connect()).event_log(rig.shard)
    other = (await rig.connect()).event_log(rig.shard)
    results: list[AppendResult] = []
    for seq in range(50):
        log.append("mine", b"x", seq, results.append)
    # Somebody else gets between, wherever: from there on everything is refused.
    asyncio.get_running_loop().call_soon(other.append, "other", b"y", 20, lambda result: None)
    log.append("mine", b"x", 51, results.append)
    log.append("mine", b"x", 52, results.append)
    await within(lambda: len(results) == 52)
    landed = [type(result) for result in results]
    stored = [entry.key for entry in await log.read(0)]
    prefix = landed.index(AppendRefused)
    assert all(kind is Appended for kind in landed[:prefix])
    assert all(kind is AppendRefused for kind in landed[prefix:])
    assert stored.count("mine") == prefix


async def test_a_sink_that_raises_costs_no_other_sink_its_answer(rig, within):
    log = (await rig.connect()).event_log(rig.shard)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    results: list[AppendResult] = []

    def broken(result: AppendResult) -> None:
        results.append(result)
        raise RuntimeError("broken sink")

    log.append("a", b"", 0, broken)
    log.append("a", b"", 1, results.append)
    await within(lambda: len(results) == 2)
    assert results == [Appended(1), Appended(2)]


async def test_a_record_over_the_limit_is_refused_before_it_is_sent(rig):
    log = (await rig.connect()).event_log(rig.shard)
    with pytest.raises(PayloadTooLargeError):
        log.append("a", bytes(MESSAGE_BYTES_MAX + 1), 0, lambda result: None)
    assert await put(log, "a", bytes(MESSAGE_BYTES_MAX), 0) == Appended(1)
    assert len((await log.read(0))[0].payload) == MESSAGE_BYTES_MAX


async def test_read_takes_a_start_a_key_and_a_most(rig):
    log = (await rig.connect()).event_log(rig.shard)
    await fill(log, "abacab")
    assert [entry.seq for entry in await log.read(0)] == [1, 2, 3, 4, 5, 6]
    assert [entry.seq for entry in await log.read(4)] == [5, 6]
    assert [entry.seq for entry in await log.read(6)] == []
    assert [entry.seq for entry in await log.read(99)] == []
    assert brief(await log.read(0, key="a")) == [(1, "a", b"a1"), (3, "a", b"a3"), (5, "a", b"a5")]
    assert [entry.seq for entry in await log.read(1, key="a", records_max=1)] == [3]
    assert [entry.seq for entry in await log.read(0, key="zz")] == []
    assert [entry.seq for entry in await log.read(0, records_max=2)] == [1, 2]


async def test_a_read_is_bounded_in_bytes_and_goes_on_where_it_ended(rig):
    log = (await rig.connect()).event_log(rig.shard)
    for seq in range(20):
        await put(log, "a", bytes(1_000_000), seq)
    seen: list[int] = []
    while entries := await log.read(seen[-1] if seen else 0):
        assert sum(len(entry.payload) for entry in entries) <= 9 * 1024 * 1024
        seen += [entry.seq for entry in entries]
    assert seen == list(range(1, 21))


async def test_two_shards_have_two_logs(rig):
    connection = await rig.connect()
    other_shard = f"{rig.shard}x"
    await connection.ensure_streams(other_shard)
    await fill(connection.event_log(rig.shard), "aaa")
    await fill(connection.event_log(other_shard), "b")
    assert len(await connection.event_log(rig.shard).read(0)) == 3
    assert len(await connection.event_log(other_shard).read(0)) == 1


@pytest.mark.parametrize("key", [None, "b"])
async def test_follow_yields_what_is_there_and_then_what_comes(rig, key, within):
    log = (await rig.connect()).event_log(rig.shard)
    writer = (await rig.connect()).event_log(rig.shard)
    await fill(writer, "abab")
    seen: list[int] = []

    async def follow() -> None:
        async with aclosing(log.follow(1, key=key)) as entries:
            async for entry in entries:
                seen.append(entry.seq)

    following = asyncio.create_task(follow())
    wanted = [2, 3, 4] if key is None else [2, 4]
    await within(lambda: len(seen) >= len(wanted))
    for seq in range(4, 200):
        await put(writer, "ab"[seq % 2], b"", seq)
    wanted = [seq for seq in range(2, 201) if key is None or seq % 2 == 0]
    await within(lambda: len(seen) >= len(wanted))
    assert seen == wanted
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_follow_neither_skips_nor_repeats_when_it_starts_amid_a_flood(rig, within):
    log = (await rig.connect()).event_log(rig.shard)
    writer = (await rig.connect()).event_log(rig.shard)
    total = 3000
    done = asyncio.Event()

    def sink_of(seq: int):
        def sink(result: AppendResult) -> None:
            assert result == Appended(seq + 1)
            if seq + 64 < total:
                writer.append("ab"[seq % 2], bytes(200), seq + 64, sink_of(seq + 64))
            if seq == total - 1:
                done.set()

        return sink

    for seq in range(64):
        writer.append("ab"[seq % 2], bytes(200), seq, sink_of(seq))
    seen: list[int] = []

    async def follow() -> None:
        async with aclosing(log.follow(0)) as entries:
            async for entry in entries:
                seen.append(entry.seq)

    following = asyncio.create_task(follow())
    async with asyncio.timeout(20):
        await done.wait()
    await within(lambda: len(seen) >= total)
    assert seen == list(range(1, total + 1))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_everything_in_flight_is_unclear_when_the_server_dies(breakable, within):
    log = (await breakable.connect()).event_log(breakable.shard)
    await fill(log, "aaa")
    results: list[AppendResult] = []
    for seq in range(3, 23):
        log.append("a", b"x", seq, results.append)
    breakable.cut()
    await within(lambda: len(results) == 20, APPEND_DEADLINE_S)
    # What was acknowledged before the end stays so; the rest is unclear, not refused.
    kinds = [type(result) for result in results]
    acknowledged = kinds.count(Appended)
    assert set(kinds[acknowledged:]) <= {AppendUnclear}
    assert isinstance(await put(log, "a", b"x", 3), AppendUnclear)
    with pytest.raises(LogUnavailableError):
        await log.last()
    with pytest.raises(LogUnavailableError):
        await log.read(0)
    breakable.restore()
    last = await readable(log)
    assert last.seq >= 3 + acknowledged
    await asyncio.sleep(0.05)
    assert (await log.last()).seq == last.seq, "something came after the reconnect"
    assert await put(log, "a", b"again", last.seq) == Appended(last.seq + 1)


@pytest.mark.parametrize("key", [None, "a"])
async def test_follow_goes_on_after_the_servers_return(breakable, within, key):
    follower = (await breakable.connect()).event_log(breakable.shard)
    log = (await breakable.connect()).event_log(breakable.shard)
    await fill(log, "aaa")
    seen: list[int] = []

    async def follow() -> None:
        async with aclosing(follower.follow(0, key=key)) as entries:
            async for entry in entries:
                seen.append(entry.seq)

    following = asyncio.create_task(follow())
    await within(lambda: seen == [1, 2, 3])
    for _ in range(2):
        breakable.cut()
        await asyncio.sleep(0.1)
        breakable.restore()
        last = await readable(log)
        for seq in range(last.seq, last.seq + 10):
            assert await put(log, "a", b"", seq) == Appended(seq + 1)
        await within(lambda seq=seq: seen and seen[-1] == seq + 1, READ_DEADLINE_S)
    assert seen == list(range(1, 24))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_the_receiver_of_a_gate_hears_the_acknowledgement_as_the_writer_does(rig, within):
    writer, receiver = await rig.connect(), await rig.connect()
    opened: list[str] = []
    gates = Gates[str](opened.append)
    subject = ack_subject(writer.endpoint.namespace, rig.shard, "me.1", "*", "*")
    receiver.bus.subscribe(subject, gates.hear)
    await receiver.ensure_streams(rig.shard)  # With it the subscription has arrived.
    log = writer.event_log(rig.shard)
    results: list[AppendResult] = []
    for seq, expected in ((1, 0), (2, 1), (3, 7)):
        gate = log.gate("me.1")
        assert gate is not None
        gates.keep(gate.name, seq, f"record {seq}")
        log.append("a", b"x", expected, results.append, gate=gate)
    await within(lambda: len(results) == 3)
    await within(lambda: len(opened) == 2)
    assert results == [Appended(1), Appended(2), AppendRefused(7)]
    assert opened == ["record 1", "record 2"]


async def test_each_gate_is_another_one_and_names_what_is_heard_on_its_subject(rig):
    log = (await rig.connect()).event_log(rig.shard)
    first, second = log.gate("me.1"), log.gate("me.1")
    assert first is not None
    assert second is not None
    assert first.name != second.name
    assert gate_name(first.subject) == first.name
