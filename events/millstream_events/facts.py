"""What every event begins with, and the events of graphs; `model` has the others."""

import msgspec

from millstream_events.values import Value


class Fact(msgspec.Struct, frozen=True, array_like=True, tag_field="fact"):
    """Fields that every event begins with."""

    #: Ordinal of the action inside its run; 0 is the root, also for events of the run itself.
    action: int
    #: 1-based attempt, or 0 when the event is not about one.
    attempt: int = 0
    #: Revision of the run that caused this event; 0: something outside did.
    cause: int = 0
    #: Id of the command or report behind it, or empty.
    source: bytes = b""


class GraphStarted(Fact, frozen=True, array_like=True, tag=40):
    """The leader walks the action's plan from here on."""


class GraphSucceeded(Fact, frozen=True, array_like=True, tag=41):
    """Every node of the action's plan succeeded, and with them the action."""

    output: Value | None = None
