"""`Bus` in memory: for tests, simulation, and `mode="local"`."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from millstream_events.codec import MESSAGE_BYTES_MAX
from millstream_events.errors import PayloadTooLargeError
from millstream_events.memory_faults import FaultPlan, MessageFault

Sink: TypeAlias = Callable[[str, bytes], None]


def matches(pattern: str, subject: str) -> bool:
    """Say whether `subject` is one that a subscription to `pattern` hears, by NATS's rules."""
    wanted = pattern.split(".")
    tokens = subject.split(".")
    for at, want in enumerate(wanted):
        if want == ">":
            return len(tokens) > at
        if at >= len(tokens) or (want not in ("*", tokens[at])):
            return False
    return len(tokens) == len(wanted)


class _Subscription:
    __slots__ = ("bus", "pattern", "sink")

    def __init__(self, bus: "MemoryBus", pattern: str, sink: Sink) -> None:
        self.bus = bus
        self.pattern = pattern
        self.sink = sink


class MemorySwitch:
    """What joins the buses of all connections."""

    def __init__(self) -> None:
        self._exact: dict[str, list[_Subscription]] = {}
        self._wild: list[_Subscription] = []

    def add(self, subscription: _Subscription) -> Callable[[], None]:
        """Connect `subscription`; return what ends it."""
        pattern = subscription.pattern
        wild = "*" in pattern or ">" in pattern
        place = self._wild if wild else self._exact.setdefault(pattern, [])
        place.append(subscription)

        def end() -> None:
            if subscription in place:
                place.remove(subscription)
            if not place and not wild and self._exact.get(pattern) is place:
                del self._exact[pattern]

        return end

    def deliver(self, subject: str, payload: bytes) -> None:
        """Pass one message to every subscription that is there now."""
        soon = asyncio.get_running_loop().call_soon
        for subscription in self._exact.get(subject, ()):
            soon(subscription.bus.receive, subscription.sink, subject, payload)
        for subscription in self._wild:
            if matches(subscription.pattern, subject):
                soon(subscription.bus.receive, subscription.sink, subject, payload)


class MemoryBus:
    """`Bus` of one connection."""

    def __init__(self, switch: MemorySwitch, plan: FaultPlan | None = None) -> None:
        self._switch = switch
        self._plan = plan or FaultPlan()
        self._back_sinks: list[Callable[[], None]] = []
        self._connected = True
        #: Messages that were published while disconnected.
        self.dropped = 0

    @property
    def connected(self) -> bool:
        """Whether a message published now goes out."""
        return self._connected

    def publish(self, subject: str, payload: bytes) -> None:
        """Send now; see `Bus.publish`."""
        if len(payload) > MESSAGE_BYTES_MAX:
            raise PayloadTooLargeError(subject, len(payload), MESSAGE_BYTES_MAX)
        if not self._connected:
            self.dropped += 1
            return
        fault = self._plan.next_message()
        if fault is MessageFault.DROPPED:
            return
        if fault is MessageFault.LATE:
            loop = asyncio.get_running_loop()
            loop.call_later(self._plan.delay_s, self._switch.deliver, subject, payload)
            return
        self._switch.deliver(subject, payload)
        if fault is MessageFault.TWICE:
            self._switch.deliver(subject, payload)

    def flush(self) -> None:
        """Do nothing: a message is on its way as soon as it is published."""

    def subscribe(self, subject: str, sink: Sink) -> Callable[[], None]:
        """Call `sink` for each message; see `Bus.subscribe`."""
        live = True

        def pass_on(heard: str, payload: bytes) -> None:
            # What is under way when the subscription ends does not come.
            if live:
                sink(heard, payload)

        end_in_switch = self._switch.add(_Subscription(self, subject, pass_on))

        def end() -> None:
            nonlocal live
            live = False
            end_in_switch()

        return end

    def on_reconnect(self, sink: Callable[[], None]) -> Callable[[], None]:
        """Call `sink` after each re-established connection; see `Bus.on_reconnect`."""
        self._back_sinks.append(sink)
        return lambda: self._back_sinks.remove(sink)

    def receive(self, sink: Sink, subject: str, payload: bytes) -> None:
        """Hand one message over, unless the connection is cut."""
        if self._connected:
            sink(subject, payload)

    def cut(self) -> None:
        """Disconnect: messages in both directions are lost until `restore`."""
        self._connected = False

    def restore(self) -> None:
        """Connect again and say so."""
        if not self._connected:
            self._connected = True
            for sink in tuple(self._back_sinks):
                asyncio.get_running_loop().call_soon(sink)
