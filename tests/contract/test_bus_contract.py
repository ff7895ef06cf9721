"""`Bus`: what every adapter promises."""

import asyncio

import pytest

from millstream_events.codec import MESSAGE_BYTES_MAX
from millstream_events.errors import PayloadTooLargeError

pytestmark = pytest.mark.alone


async def settled(connection) -> None:
    """Return once everything that this connection subscribed is heard."""
    heard = asyncio.Event()
    end = connection.bus.subscribe("ms.test.settled", lambda subject, payload: heard.set())
    async with asyncio.timeout(3):
        while not heard.is_set():
            connection.bus.publish("ms.test.settled", b"")
            await asyncio.sleep(0.005)
    end()


async def test_messages_of_one_sender_arrive_once_and_in_order(rig, within):
    sender, receiver = await rig.connect(), await rig.connect()
    heard: list[tuple[str, bytes]] = []
    receiver.bus.subscribe(
        f"ms.{rig.shard}.*", lambda subject, payload: heard.append((subject, payload))
    )
    await settled(receiver)
    sent = [(f"ms.{rig.shard}.{n % 3}", b"%d" % n) for n in range(1000)]
    for subject, payload in sent:
        sender.bus.publish(subject, payload)
    await within(lambda: len(heard) >= 1000)
    assert heard == sent


@pytest.mark.parametrize(
    ("pattern", "subject", "heard"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("*.b", "a.b", True),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b.d", False),
    ],
)
async def test_a_pattern_hears_what_nats_says(rig, pattern, subject, heard):
    connection = await rig.connect()
    seen: list[str] = []
    connection.bus.subscribe(f"ms.{rig.shard}.{pattern}", lambda at, payload: seen.append(at))
    await settled(connection)
    connection.bus.publish(f"ms.{rig.shard}.{subject}", b"")
    await settled(connection)
    assert seen == ([f"ms.{rig.shard}.{subject}"] if heard else [])


async def test_every_subscription_hears_a_message_and_an_ended_one_does_not(rig):
    connection = await rig.connect()
    subject = f"ms.{rig.shard}"
    first: list[bytes] = []
    second: list[bytes] = []
    end = connection.bus.subscribe(subject, lambda at, payload: first.append(payload))
    connection.bus.subscribe(subject, lambda at, payload: second.append(payload))
    await settled(connection)
    connection.bus.publish(subject, b"1")
    await settled(connection)
    end()
    end()
    connection.bus.publish(subject, b"2")
    await settled(connection)
    assert (first, second) == ([b"1"], [b"1", b"2"])


async def test_a_sink_that_raises_does_not_deafen_its_subscription_or_others(rig):
    connection = await rig.connect()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    heard: list[bytes] = []

    def broken(subject: str, payload: bytes) -> None:
        heard.append(payload)
        raise RuntimeError("broken sink")

    connection.bus.subscribe(f"ms.{rig.shard}", broken)
    await settled(connection)
    for number in range(3):
        connection.bus.publish(f"ms.{rig.shard}", b"%d" % number)
    await settled(connection)
    assert heard == [b"0", b"1", b"2"]
    assert connection.bus.connected


async def test_the_largest_message_arrives_and_a_larger_one_is_refused(rig, within):
    connection = await rig.connect()
    sizes: list[int] = []
    connection.bus.subscribe(f"ms.{rig.shard}", lambda at, payload: sizes.append(len(payload)))
    await settled(connection)
    with pytest.raises(PayloadTooLargeError) as caught:
        connection.bus.publish(f"ms.{rig.shard}", bytes(MESSAGE_BYTES_MAX + 1))
    assert caught.value.limit_bytes == MESSAGE_BYTES_MAX
    connection.bus.publish(f"ms.{rig.shard}", bytes(MESSAGE_BYTES_MAX))
    await within(lambda: sizes == [MESSAGE_BYTES_MAX])
    assert connection.bus.connected


async def test_while_the_server_is_away_messages_are_dropped_for_good(breakable, within):
    connection = await breakable.connect()
    heard: list[bytes] = []
    returns: list[int] = []
    connection.bus.subscribe("ms.test.down", lambda at, payload: heard.append(payload))
    connection.bus.on_reconnect(lambda: returns.append(len(heard)))
    await settled(connection)
    assert connection.bus.connected
    breakable.cut()
    await within(lambda: not connection.bus.connected)
    connection.bus.publish("ms.test.down", b"late")
    await asyncio.sleep(0.1)
    assert not connection.bus.connected
    breakable.restore()
    await within(lambda: returns == [0])
    assert connection.bus.connected
    await settled(connection)
    connection.bus.publish("ms.test.down", b"fresh")
    await within(lambda: bool(heard))
    await settled(connection)
    assert heard == [b"fresh"]
    assert returns == [0]


async def test_who_listens_no_longer_hears_of_no_return(breakable, within):
    connection = await breakable.connect()
    ended: list[int] = []
    returns: list[int] = []
    end = connection.bus.on_reconnect(lambda: ended.append(1))
    connection.bus.on_reconnect(lambda: returns.append(1))
    await settled(connection)
    end()
    breakable.cut()
    await within(lambda: not connection.bus.connected)
    breakable.restore()
    await within(lambda: returns == [1])
    assert ended == []


async def test_subscriptions_survive_several_returns_and_are_never_doubled(breakable, within):
    connection, other = await breakable.connect(), await breakable.connect()
    heard: list[bytes] = []
    returns: list[int] = []
    connection.bus.subscribe("ms.test.many", lambda at, payload: heard.append(payload))
    connection.bus.on_reconnect(lambda: returns.append(1))
    for number in range(3):
        breakable.cut()
        await within(lambda: not connection.bus.connected)
        breakable.restore()
        await within(lambda number=number: len(returns) == number + 1)
        await within(lambda: other.bus.connected)
        await settled(connection)
        other.bus.publish("ms.test.many", b"%d" % number)
        await within(lambda number=number: len(heard) == number + 1)
    await settled(connection)
    assert heard == [b"0", b"1", b"2"]


async def test_a_closed_connection_says_so_once_and_stays_silent(rig):
    connection, other = await rig.connect(), await rig.connect()
    said: list[int] = []
    heard: list[bytes] = []
    connection.on_closed(lambda: said.append(1))
    connection.bus.subscribe(f"ms.{rig.shard}", lambda at, payload: heard.append(payload))
    await settled(connection)
    await connection.close()
    await connection.close()
    assert said == [1]
    assert not connection.bus.connected
    connection.bus.publish(f"ms.{rig.shard}", b"x")
    other.bus.publish(f"ms.{rig.shard}", b"x")
    await settled(other)
    assert heard == []
