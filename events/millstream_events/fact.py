"""The fields that every event begins with; see `model`."""

import msgspec


class Fact(msgspec.Struct, frozen=True, array_like=True, tag_field="fact"):
    """What every event says, whatever it is about."""

    #: Ordinal of the action inside its run; 0 is the root, also for events of the run itself.
    action: int
    #: 1-based attempt, or 0 when the event is not about one.
    attempt: int = 0
    #: Revision of the run that caused this event; 0: something outside did.
    cause: int = 0
    #: Id of the command or report behind it, or empty.
    source: bytes = b""
