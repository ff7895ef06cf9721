"""Connecting, losing and finding a server again."""

import asyncio
import os
import signal
import time

import pytest

from millstream_events.connect import connect
from millstream_events.endpoint import Endpoint
from millstream_events.errors import BusDeniedError, ClusterNotReachedError, ConfigError
from millstream_events.ports import Appended, AppendUnclear

pytestmark = pytest.mark.alone

#: More than any deadline that a test here sets, and less than the one of `connect` itself.
NO_WAIT_S = 2.5


async def until(condition, deadline_s: float = 3.0) -> float:
    """Wait for `condition` and return how long it took, in seconds."""
    start_s = time.monotonic()
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.002)
    return time.monotonic() - start_s


@pytest.mark.parametrize("token", ["", "wrong", "ünïcode", "x" * 300])
async def test_a_wrong_token_is_denied_at_once(nats, token):
    start_s = time.monotonic()
    with pytest.raises(BusDeniedError) as caught:
        await connect(Endpoint(url=nats.url, token=token), name="intruder")
    assert time.monotonic() - start_s < NO_WAIT_S
    assert not token or token not in str(caught.value)


async def test_nobody_there_is_reported_within_the_deadline():
    start_s = time.monotonic()
    with pytest.raises(ClusterNotReachedError):
        await connect(Endpoint(url="nats://127.0.0.1:9"), name="lonely", deadline_s=0.5)
    assert time.monotonic() - start_s < NO_WAIT_S


async def test_a_refusal_that_meets_the_deadline_ends_the_wait():
    """nats-py drops a cancellation that comes together with a refused connection."""

    async def give_up_after(deadline_s: float) -> None:
        with pytest.raises(ClusterNotReachedError):
            await connect(Endpoint(url="nats://127.0.0.1:9"), name="lonely", deadline_s=deadline_s)

    waiting = [asyncio.create_task(give_up_after(0.05 + 1e-4 * step)) for step in range(200)]
    done, pending = await asyncio.wait(waiting, timeout=5)
    for task in pending:
        task.cancel()
    assert not pending
    for task in done:
        task.result()


async def test_a_server_that_accepts_and_never_answers_is_reported_within_the_deadline(proxy):
    proxy.mute = True
    start_s = time.monotonic()
    with pytest.raises(ClusterNotReachedError):
        await connect(
            Endpoint(url=f"nats://127.0.0.1:{proxy.port}"), name="patient", deadline_s=1.5
        )
    assert time.monotonic() - start_s < NO_WAIT_S


@pytest.mark.parametrize(
    "greeting",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO {not json\r\n", b"\x00\xff" * 50 + b"\r\n"],
)
async def test_what_is_no_nats_server_is_reported_within_the_deadline(greeting):
    async def greet(reader, writer):
        writer.write(greeting)
        await writer.drain()
        writer.close()

    impostor = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = impostor.sockets[0].getsockname()[1]
    with pytest.raises(ClusterNotReachedError):
        await connect(Endpoint(url=f"nats://127.0.0.1:{port}"), name="fooled", deadline_s=0.7)
    impostor.close()
    await impostor.wait_closed()


async def test_the_second_of_several_servers_is_used(nats):
    endpoint = Endpoint(url=f"nats://127.0.0.1:9, {nats.url}", token=nats.token)
    connection = await connect(endpoint, name="two")
    assert connection.bus.connected
    await connection.close()


async def test_the_connection_knows_version_and_durability(connection):
    assert connection.server_version.startswith("2.")
    assert connection.durability == "interval"


@pytest.mark.parametrize("direction", ["hole_up", "hole_down"])
async def test_a_half_open_connection_is_noticed_within_three_seconds(nats, proxy, direction):
    endpoint = Endpoint(url=f"nats://127.0.0.1:{proxy.port}", token=nats.token)
    connection = await connect(endpoint, name="half")
    await connection.ensure_streams("lo00")
    log = connection.event_log("lo00")
    returns: list[int] = []
    results: list[object] = []
    connection.bus.on_reconnect(lambda: returns.append(1))
    setattr(proxy, direction, True)
    log.append("a", b"", 0, results.append)
    assert await until(lambda: not connection.bus.connected, 4) < 3
    assert [type(result) for result in results] == [AppendUnclear]
    setattr(proxy, direction, False)
    assert await until(lambda: returns == [1]) < 3
    last = await log.last()
    # One direction lost the request, the other only the answer: unclear says just that.
    assert (last is None) == (direction == "hole_up")
    await connection.close()


async def test_a_reset_link_is_noticed_at_once_and_comes_back(nats, proxy):
    endpoint = Endpoint(url=f"nats://127.0.0.1:{proxy.port}", token=nats.token)
    connection = await connect(endpoint, name="reset")
    returns: list[int] = []
    connection.bus.on_reconnect(lambda: returns.append(1))
    for number in range(3):
        proxy.reset()
        assert await until(lambda number=number: len(returns) == number + 1) < 1
    assert connection.losses == 3
    await connection.close()


async def test_a_pause_of_the_client_costs_no_connection_and_no_append(connection):
    log = connection.event_log("lo00")
    results: list[object] = []
    log.append("a", b"", 0, results.append)
    time.sleep(3)  # the whole process stands still, as under SIGSTOP
    await until(lambda: bool(results))
    await asyncio.sleep(1.2)
    assert results == [Appended(1)]
    assert connection.losses == 0


async def test_a_stopped_server_is_noticed_and_found_again(nats, connection):
    returns: list[int] = []
    connection.bus.on_reconnect(lambda: returns.append(1))
    os.kill(nats.pid, signal.SIGSTOP)
    try:
        assert await until(lambda: not connection.bus.connected, 4) < 3
    finally:
        os.kill(nats.pid, signal.SIGCONT)
    assert await until(lambda: returns == [1], 4) < 3


async def test_requests_fail_and_close_returns_while_the_server_is_stopped(nats, connection):
    os.kill(nats.pid, signal.SIGSTOP)
    try:
        start_s = time.monotonic()
        await connection.close()
        assert time.monotonic() - start_s < NO_WAIT_S
    finally:
        os.kill(nats.pid, signal.SIGCONT)


async def test_a_server_that_comes_back_with_another_token_does_not_end_the_connection(
    nats, connection
):
    nats.process.kill()
    nats.process.wait()
    right, nats.token = nats.token, "another"
    nats.restart()
    await asyncio.sleep(0.5)
    assert not connection.bus.connected
    nats.token = right
    nats.restart()
    await until(lambda: connection.bus.connected)


async def test_a_message_that_the_server_forbids_costs_the_connection_but_it_comes_back(
    nats, connection
):
    returns: list[int] = []
    connection.bus.on_reconnect(lambda: returns.append(1))
    # Past the adapter's own check: what a bug would do.
    connection._wire.publish("ms.test", bytes(2 * 1024 * 1024))
    assert await until(lambda: returns == [1]) < 2


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0\r\n", "a\tb", "a\x00"])
async def test_a_subject_that_would_break_the_protocol_is_refused(connection, subject):
    with pytest.raises(ValueError):
        connection.bus.publish(subject, b"")
    with pytest.raises(ValueError):
        connection.bus.subscribe(subject, lambda at, payload: None)
    assert connection.bus.connected


async def test_a_server_with_smaller_messages_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("millstream_events.nats_server.PAYLOAD_BYTES_MAX", 64 * 1024)
    from millstream_events.nats_server import start_nats_server

    server = start_nats_server(tmp_path / "small")
    try:
        with pytest.raises(ConfigError):
            await connect(server.endpoint, name="large")
    finally:
        server.stop()
