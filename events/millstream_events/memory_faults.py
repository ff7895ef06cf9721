"""What goes wrong in the adapters in memory, decided beforehand and explicitly."""

import enum
import random
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec


class AppendFault(enum.Enum):
    """What happens to one append."""

    #: It never arrives, and is unclear.
    REQUEST_LOST = "request lost"
    #: It is stored, and is unclear.
    ACK_LOST = "ack lost"
    #: It is stored, and acknowledged late; those behind it wait.
    ACK_LATE = "ack late"
    #: It is stored, and refused: how one server answers what it has already.
    REFUSED_THOUGH_STORED = "refused though stored"
    #: It is stored, and answered as a duplicate: how a cluster answers what it has already.
    DUPLICATE = "duplicate"
    #: It is unclear first, and arrives afterwards: stored then, if the fence still lets it.
    GHOST = "ghost"
    #: The store is full for it; nothing is stored.
    FULL = "full"
    #: The connection is cut when it has arrived: it is stored, all in flight is unclear.
    CUT_AFTER = "cut after"
    #: The connection is cut before it arrives: it is not stored, all in flight is unclear.
    CUT_BEFORE = "cut before"


class MessageFault(enum.Enum):
    """What happens to one message on the bus."""

    DROPPED = "dropped"
    TWICE = "twice"
    LATE = "late"


#: Drawn by `FaultPlan.seeded`. A full store has a knob of its own: `MemoryLog.full`.
_APPEND_FAULTS: Final = tuple(fault for fault in AppendFault if fault is not AppendFault.FULL)
_MESSAGE_FAULTS: Final = tuple(MessageFault)


class FaultPlan(msgspec.Struct):
    """Which append, read and message is hit, each counted from 0 on one connection."""

    appends: Mapping[int, AppendFault] = {}
    #: Reads (and `last`) that fail as unavailable.
    reads: frozenset[int] = frozenset()
    messages: Mapping[int, MessageFault] = {}
    #: How late what is late comes.
    delay_s: float = 0.05
    append_count: int = 0
    read_count: int = 0
    message_count: int = 0

    @classmethod
    def seeded(
        cls,
        seed: int,
        *,
        append_rate: float = 0.0,
        read_rate: float = 0.0,
        drop_rate: float = 0.0,
        horizon: int = 10_000,
    ) -> "FaultPlan":
        """Return a plan drawn from `seed`: the same seed gives the same plan.

        Args:
            seed: Of the plan's own generator.
            append_rate: Share of appends that are hit.
            read_rate: Share of reads that fail.
            drop_rate: Share of messages that are dropped, doubled or late.
            horizon: How many of each are drawn; what comes later is not hit.
        """
        rng = random.Random(seed)  # noqa: S311 (chooses faults, not secrets)

        def hit(rate: float) -> Iterable[int]:
            return (number for number in range(horizon) if rng.random() < rate)

        return cls(
            appends={number: rng.choice(_APPEND_FAULTS) for number in hit(append_rate)},
            reads=frozenset(hit(read_rate)),
            messages={number: rng.choice(_MESSAGE_FAULTS) for number in hit(drop_rate)},
        )

    def next_append(self) -> AppendFault | None:
        """Return what happens to the next append."""
        self.append_count += 1
        return self.appends.get(self.append_count - 1)

    def next_read_fails(self) -> bool:
        """Return whether the next read fails."""
        self.read_count += 1
        return self.read_count - 1 in self.reads

    def next_message(self) -> MessageFault | None:
        """Return what happens to the next message."""
        self.message_count += 1
        return self.messages.get(self.message_count - 1)
