"""What the leader says, packed: one message for each receiver and tick, split at the limit."""

import asyncio
from collections.abc import Sequence
from typing import Final

from millstream_events import subjects
from millstream_events.codec import MESSAGE_BYTES_MAX, encode, split
from millstream_events.commands import LeaderAnnounced, Reply, ToClient
from millstream_events.endpoint import Endpoint
from millstream_events.errors import PayloadTooLargeError
from millstream_events.gates import Gate
from millstream_events.logs import get_logger
from millstream_events.ports import Bus, EventLog
from millstream_events.reports import Order, ToAgent
from millstream_scheduler.book import Book
from millstream_scheduler.effects import Effects

log = get_logger("scheduler")

#: Longest that an acknowledgement waits for an order to ride with; agents repeat after 2 s.
ACK_DELAY_S: Final = 0.02


class Speaker:
    """Packs and publishes; every message carries the epoch, so a receiver can drop a zombie's."""

    def __init__(self, book: Book, bus: Bus, endpoint: Endpoint) -> None:
        self._book = book
        self._bus = bus
        self._namespace = endpoint.namespace
        self._shard = endpoint.shard_name
        self._loop = asyncio.get_running_loop()
        #: Agents whose acknowledgement has not been said yet.
        self._unsaid: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """Say nothing more by itself."""
        if self._timer is not None:
            self._timer.cancel()

    def acknowledge(self, agent: str, acked: int, *, heard: bool = False) -> None:
        """Tell an agent how far its reports are durable, with the next order or soon.

        Args:
            agent: To whom.
            acked: The highest number that is durable.
            heard: It has been told so behind a gate; it is said again with the next order.

        Nobody waits for it: it only lets the agent forget. A message of its own for each tick
        would wake the server and the agent once more for every action.
        """
        seat = self._book.seats.get(agent)
        if seat is None:
            return
        seat.acked = max(seat.acked, acked)
        if heard:
            return
        self._unsaid.add(agent)
        if self._timer is None:
            self._timer = self._loop.call_later(ACK_DELAY_S, self._say_acks)

    def _say_acks(self) -> None:
        self._timer = None
        for agent in sorted(self._unsaid):
            self.tell_agent(agent, ())

    def announce(self, node: str) -> None:
        """Say who leads."""
        announced = LeaderAnnounced(self._book.state.epoch, node)
        subject = subjects.leader_subject(self._namespace, self._shard)
        self._publish(subject, encode(announced))

    def tell_agent(
        self,
        agent: str,
        orders: Sequence[Order],
        acked: int | None = None,
        *,
        gate: Gate | None = None,
        gate_seq: int = 0,
    ) -> None:
        """Send orders, and how far the agent's reports are durable.

        Args:
            agent: To whom.
            orders: In order.
            acked: All of its reports up to this number are durable, or will be with the gate.
            gate: All of it holds only behind this gate.
            gate_seq: The sequence that the gate must be acknowledged as.
        """
        seat = self._book.seats.get(agent)
        if seat is not None:
            upto = seat.acked if acked is None else max(seat.acked, acked)
            if gate is None:
                self._unsaid.discard(agent)
                seat.acked = upto
            pool, region = seat.hello.pool, seat.hello.region
            incarnation = seat.incarnation
        elif agent in self._book.strangers:
            pool, region, incarnation = self._book.strangers.pop(agent)
            upto = 0
        else:
            return  # Given up since: it will introduce itself, and asks again then.
        subject = subjects.work_subject(self._namespace, region, pool, agent)
        epoch = self._book.state.epoch

        name = "" if gate is None else gate.name

        def pack(items: Sequence[Order]) -> bytes:
            return encode(ToAgent(epoch, incarnation, upto, tuple(items), name, gate_seq))

        for _, message in split(orders, pack, limit_bytes=MESSAGE_BYTES_MAX):
            self._publish(subject, message)

    def tell_client(
        self,
        client: str,
        replies: Sequence[Reply],
        *,
        gate: Gate | None = None,
        gate_seq: int = 0,
    ) -> None:
        """Send answers and releases; with a gate they hold only behind it."""
        who, _, proc = client.partition(".")
        subject = subjects.client_subject(self._namespace, who, proc)
        epoch = self._book.state.epoch
        name = "" if gate is None else gate.name

        def pack(items: Sequence[Reply]) -> bytes:
            return encode(ToClient(epoch, tuple(items), name, gate_seq))

        for _, message in split(replies, pack, limit_bytes=MESSAGE_BYTES_MAX):
            self._publish(subject, message)

    def say_ahead(self, effects: Effects, event_log: EventLog, seq: int) -> Gate | None:
        """Tell the one who waits for the only frame in flight, ahead of it.

        The log's own acknowledgement then makes it true there, without a trip to us and back.

        Args:
            effects: Of the tick that made the frame.
            event_log: Where the frame is about to go.
            seq: The sequence that it will get.

        Returns:
            The gate, which goes with the frame. None: there is not just one who waits.
        """
        agents, clients = effects.agents_durable, effects.clients_durable
        if len(agents) + len(clients) != 1:
            return None
        for agent, orders in agents.items():
            seat = self._book.seats.get(agent)
            gate = None if seat is None else event_log.gate(f"{seat.hello.pool}.{agent}")
            if gate is not None:
                acked = effects.acks.get(agent)
                self.tell_agent(agent, orders, acked, gate=gate, gate_seq=seq)
            return gate
        for client, replies in clients.items():
            gate = event_log.gate(client)
            if gate is not None:
                self.tell_client(client, replies, gate=gate, gate_seq=seq)
            return gate
        return None

    def _publish(self, subject: str, message: bytes) -> None:
        try:
            self._bus.publish(subject, message)
        except PayloadTooLargeError as exc:
            log.error("message_too_large", subject=subject, size_bytes=exc.size_bytes)
