"""The link between an agent and a worker: one batch for each tick, or more when there is much."""

import asyncio
import socket
from collections.abc import Callable

import msgspec
import pytest
import uvloop

from millstream_executor.link import Ping
from millstream_executor.worker_link import WAITING_MAX, FrameReader, LinkEnd

_decoder = msgspec.msgpack.Decoder(tuple[Ping, ...])


class Pair:
    """An end of a link, and a plain socket as its other side."""

    def __init__(self) -> None:
        self.heard: list[tuple[Ping, ...]] = []
        self.mine, self.other = socket.socketpair()
        self.other.setblocking(False)
        self.link = LinkEnd[Ping, Ping](_decoder, self.heard.append, lambda why: None)
        self._reader = FrameReader()

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self.link, sock=self.mine)

    def arrived(self) -> list[int]:
        """Return how many messages each batch has that the other side could read by now."""
        try:
            content = self.other.recv(1 << 20)
        except BlockingIOError:
            return []
        return [len(_decoder.decode(frame)) for frame in self._reader.feed(memoryview(content))]

    async def close(self) -> None:
        self.link.close()
        self.other.close()
        await asyncio.sleep(0)


@pytest.fixture
async def pair():
    made = Pair()
    await made.connect()
    yield made
    await made.close()


async def test_what_is_sent_in_one_tick_leaves_as_one_batch_after_it(pair: Pair) -> None:
    for number in range(5):
        pair.link.send((Ping(number),))
    assert pair.arrived() == []
    await asyncio.sleep(0)
    assert pair.arrived() == [5]


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_tick_with_much_to_say_is_heard_before_it_is_over(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def say_much() -> None:
        pair = Pair()
        await pair.connect()
        for number in range(2 * WAITING_MAX + 3):
            pair.link.send((Ping(number),))
        assert pair.arrived() == [WAITING_MAX, WAITING_MAX]
        await asyncio.sleep(0)
        assert pair.arrived() == [3]
        await pair.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(say_much())


async def test_what_is_sent_before_there_is_a_connection_waits_for_it() -> None:
    pair = Pair()
    for number in range(2 * WAITING_MAX):
        pair.link.send((Ping(number),))
    await pair.connect()
    async with asyncio.timeout(3):
        while not (arrived := pair.arrived()):
            await asyncio.sleep(0)
    assert sum(arrived) == 2 * WAITING_MAX
    await pair.close()
