"""The event log against what a real JetStream does, and what a strange one might."""

import asyncio
import random

import msgspec
import nats as nats_py
import pytest

from millstream_events.connect import connect
from millstream_events.endpoint import Endpoint
from millstream_events.errors import ConfigError, LogUnavailableError
from millstream_events.jetstream import JetStreamLog
from millstream_events.nats_server import NatsServerOptions, start_nats_server
from millstream_events.ports import Appended, AppendUnclear, StoreFull

pytestmark = pytest.mark.alone


async def api(connection, operation: str, body: dict | None = None) -> dict:
    payload = b"" if body is None else msgspec.json.encode(body)
    reply = await connection._wire.request(f"$JS.API.{operation}", payload, deadline_s=3)
    return msgspec.json.decode(reply.payload)


async def put(log, key: str, payload: bytes, expected_seq: int):
    answered = asyncio.get_running_loop().create_future()
    log.append(key, payload, expected_seq, answered.set_result)
    async with asyncio.timeout(4):
        return await answered


async def test_a_full_store_says_so_and_takes_records_again_after_a_purge(tmp_path):
    server = start_nats_server(
        tmp_path / "nats", NatsServerOptions(file_store_bytes_max=16 * 1024 * 1024)
    )
    try:
        connection = await connect(server.endpoint, name="full")
        await connection.ensure_streams("lo00")
        log = connection.event_log("lo00")
        seq = 0
        while isinstance(result := await put(log, f"r{seq % 3}", bytes(900_000), seq), Appended):
            seq = result.seq
            assert seq < 30
        assert result == StoreFull(seq)
        assert (await log.last()).seq == seq
        assert await put(log, "r0", bytes(900_000), seq) == StoreFull(seq)
        purged = await api(
            connection, "STREAM.PURGE.MS_LOG_lo00", {"filter": "ms.main.log.lo00.r1"}
        )
        assert purged["success"]
        assert await put(log, "r0", bytes(900_000), seq) == Appended(seq + 1)
        await connection.close()
    finally:
        server.stop()


async def test_a_purged_last_record_keeps_its_sequence(connection):
    log = connection.event_log("lo00")
    for seq in range(3):
        await put(log, "abc"[seq], b"x", seq)
    await api(connection, "STREAM.PURGE.MS_LOG_lo00", {"filter": "ms.main.log.lo00.c"})
    last = await log.last()
    assert (last.seq, last.key, last.payload) == (3, "", b"")
    assert [entry.seq for entry in await log.read(0)] == [1, 2]
    assert await put(log, "d", b"x", 3) == Appended(4)
    await api(connection, "STREAM.PURGE.MS_LOG_lo00", {"filter": "ms.main.log.lo00.a"})
    assert [entry.seq for entry in await log.read(0)] == [2, 4]


async def test_streams_may_be_made_by_many_at_once_and_again(nats):
    connections = [await connect(nats.endpoint, name=f"c{n}") for n in range(6)]
    async with asyncio.timeout(15):
        await asyncio.gather(*(connection.ensure_streams("lo00") for connection in connections))
        await connections[0].ensure_streams("lo00")
    log = connections[3].event_log("lo00")
    assert await put(log, "a", b"", 0) == Appended(1)
    for connection in connections:
        await connection.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("storage", "memory"),
        ("discard", "old"),
        ("retention", "workqueue"),
        ("max_age", 3600 * 10**9),
        ("max_msgs_per_subject", 5),
        ("allow_direct", False),
        ("deny_delete", False),
        ("subjects", ["ms.elsewhere.log.lo07.*"]),
        ("republish", {"src": "ms.main.log.lo07.*", "dest": "x.{{wildcard(1)}}"}),
    ],
)
async def test_a_stream_with_dangerous_settings_is_refused(connection, setting, value):
    settings = {
        "name": "MS_LOG_lo07",
        "subjects": ["ms.main.log.lo07.*"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "allow_direct": True,
        "deny_delete": True,
        "republish": {"src": "ms.main.log.lo07.*", "dest": "ms.main.stored.lo07.{{wildcard(1)}}"},
    }
    if setting == "subjects":
        settings.pop("republish")
    made = await api(connection, "STREAM.CREATE.MS_LOG_lo07", {**settings, setting: value})
    assert "error" not in made, made
    with pytest.raises(ConfigError) as caught:
        await connection.ensure_streams("lo07")
    assert "MS_LOG_lo07" in str(caught.value)


async def test_a_stream_with_more_safety_than_asked_is_taken(connection):
    made = await api(
        connection,
        "STREAM.CREATE.MS_LOG_lo08",
        {
            "name": "MS_LOG_lo08",
            "subjects": ["ms.main.log.lo08.*"],
            "storage": "file",
            "discard": "new",
            "allow_direct": True,
            "deny_delete": True,
            "max_bytes": 10_000_000,
            "deny_purge": True,
            "republish": {
                "src": "ms.main.log.lo08.*",
                "dest": "ms.main.stored.lo08.{{wildcard(1)}}",
            },
        },
    )
    assert "error" not in made, made
    await connection.ensure_streams("lo08")
    assert await put(connection.event_log("lo08"), "a", b"", 0) == Appended(1)


async def test_an_append_to_a_log_that_nobody_made_is_unclear_at_once(connection):
    result = await put(connection.event_log("none"), "a", b"", 0)
    assert isinstance(result, AppendUnclear)
    assert "503" in result.why
    with pytest.raises(LogUnavailableError):
        await connection.event_log("none").last()
    with pytest.raises(LogUnavailableError):
        await connection.event_log("none").read(0)


ANSWERS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b'{"seq":"1"}',
    b'{"seq":0}',
    b'{"seq":-1}',
    b'{"seq":7}',
    b'{"seq":1,"duplicate":true}',
    b'{"seq":99999999999999999999999999}',
    b'{"error":null}',
    b'{"error":{}}',
    b'{"error":{"code":500,"err_code":1,"description":"\xff"}}',
    b'{"error":{"err_code":10077,"description":"disk on fire"}}',
    b"[" * 5000,
    b"\x00" * 100,
]


async def answering(server, answer_of):
    """Return a nats-py client that stands for JetStream on the shard `fake`."""
    client = await nats_py.connect(server.url, token=server.token)

    async def respond(msg):
        answer = answer_of(msg)
        if answer is not None:
            await client.publish(msg.reply, answer)

    await client.subscribe("ms.main.log.fake.*", cb=respond)
    await client.flush()
    return client


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
async def test_an_answer_that_is_no_acknowledgement_is_unclear(nats, connection, answer):
    client = await answering(nats, lambda msg: answer)
    result = await put(connection.event_log("fake"), "a", b"", 0)
    assert isinstance(result, AppendUnclear), result
    assert connection.bus.connected
    await client.close()


async def test_random_answers_in_any_order_never_break_the_order_or_the_count(nats, connection):
    rng = random.Random(5)
    held: list[str] = []

    def answer_of(msg):
        # Some are answered at once, some never, some twice and late: all by a stranger.
        if rng.random() < 0.3:
            held.append(msg.reply)
            return None
        seq = int(msg.headers["Nats-Expected-Last-Sequence"])
        return rng.choice([b'{"seq":%d}' % (seq + 1), rng.randbytes(20), *ANSWERS])

    client = await answering(nats, answer_of)
    log = connection.event_log("fake")
    order: list[int] = []
    for seq in range(300):
        log.append("a", b"", seq, lambda result, seq=seq: order.append(seq))
    await asyncio.sleep(0.3)
    for reply in reversed(held):
        await client.publish(reply, b'{"seq":1}')
        await client.publish(reply, b'{"seq":2}')
    async with asyncio.timeout(4):
        while len(order) < 300:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert order == list(range(300))
    await client.close()


async def test_an_append_without_an_answer_is_unclear_within_its_deadline(nats, connection):
    client = await answering(nats, lambda msg: None)
    log = connection.event_log("fake")
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    results = await asyncio.gather(*(put(log, "a", b"", seq) for seq in range(5)))
    assert loop.time() - start_s < 6  # The deadline is 2 s; nobody would answer in any time.
    assert all(isinstance(result, AppendUnclear) for result in results)
    await client.close()


async def test_a_read_of_garbage_is_unavailable_and_not_an_empty_log(nats, connection):
    client = await nats_py.connect(nats.url, token=nats.token)
    garbage = [b"", b"{", b'{"message":{"data":"%%%"}}', b'{"state":[]}', b"\xff"]

    async def respond(msg):
        await client.publish(msg.reply, garbage.pop(), headers={"Nats-Sequence": "x"})

    for operation in ("STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET"):
        await client.subscribe(f"$JS.API.{operation}.MS_LOG_fake", cb=respond)
    await client.flush()
    log = connection.event_log("fake")
    for read in (log.last, lambda: log.read(0)):
        with pytest.raises(LogUnavailableError):
            await read()
    await client.close()


async def test_a_follower_reads_again_when_its_feed_lies_or_loses(nats, connection):
    log = connection.event_log("lo00")
    client = await nats_py.connect(nats.url, token=nats.token)
    seen: list[int] = []

    async def follow() -> None:
        async for entry in log.follow(0):
            seen.append(entry.seq)

    following = asyncio.create_task(follow())
    await put(log, "a", b"", 0)
    await client.publish("ms.main.stored.lo00.a", b"junk")
    forged = {"Nats-Sequence": "7", "Nats-Subject": "ms.main.log.lo00.a", "Nats-Last-Sequence": "6"}
    await client.publish("ms.main.stored.lo00.a", b"from the future", headers=forged)
    await client.flush()  # Ahead of what makes it fit: then nothing could tell it from the truth.
    await put(log, "a", b"", 1)
    async with asyncio.timeout(3):
        while seen != [1, 2]:
            await asyncio.sleep(0.01)
    for seq in range(2, 6):
        await put(log, "a", b"", seq)
    async with asyncio.timeout(3):
        while len(seen) < 6:
            await asyncio.sleep(0.01)
    assert seen == [1, 2, 3, 4, 5, 6]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await client.close()


async def test_no_acknowledged_append_is_lost_or_doubled_over_kills_of_the_server(nats):
    connection = await connect(nats.endpoint, name="kills")
    await connection.ensure_streams("lo00")
    log: JetStreamLog = connection.event_log("lo00")
    acknowledged: dict[int, bytes] = {}
    number = seq = 0
    for _ in range(4):
        pending: list[asyncio.Future] = []
        for at in range(200):
            answered = asyncio.get_running_loop().create_future()
            log.append("a", b"%d" % number, seq + at, answered.set_result)
            pending.append(answered)
            number += 1
        await asyncio.wait(pending[:20])
        nats.process.kill()
        results = await asyncio.gather(*pending)
        first = number - len(pending)
        for at, result in enumerate(results):
            if isinstance(result, Appended):
                acknowledged[result.seq] = b"%d" % (first + at)
        nats.restart()
        async with asyncio.timeout(4):
            while True:
                try:
                    seq = (await log.last()).seq
                    break
                except LogUnavailableError:
                    await asyncio.sleep(0.01)
    stored = {entry.seq: entry.payload for entry in await log.read(0, records_max=10_000)}
    assert acknowledged.items() <= stored.items()
    assert len(set(stored.values())) == len(stored)
    assert len(acknowledged) >= 80
    await connection.close()


async def test_two_namespaces_do_not_share_a_log(nats, connection):
    other = await connect(Endpoint(url=nats.url, token=nats.token, namespace="other"), name="other")
    with pytest.raises(ConfigError):
        await other.ensure_streams("lo00")
    await other.close()
