"""Messages that speak of a record which is on its way into the log.

A leader that sends one frame with nothing else in flight may say what follows from it at once:
the message goes ahead to its receiver, who keeps it back until the log itself has acknowledged
the frame. The acknowledgement goes to a subject on which both of them listen, so no trip to the
leader and back lies between durability and release (decision 28).

A message whose acknowledgement is a refusal, or names another sequence than the message does, is
dropped: the leader reads the log back and says again what turns out to be true. One whose
acknowledgement is lost is asked for again, as any lost message is.
"""

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

#: Messages that one receiver keeps back; a further one pushes out the oldest.
GATED_MAX: Final = 1_024

_T = TypeVar("_T")


class Gate(NamedTuple):
    """Where the log acknowledges a frame so that a receiver hears it too."""

    #: The last two tokens of `subject`: who appends, and which of its appends it is.
    name: str
    #: Where the acknowledgement goes.
    subject: str


class _Ack(msgspec.Struct, frozen=True):
    """The part of JetStream's PubAck that counts here; `error` is there in a refusal."""

    seq: int = 0
    error: msgspec.Raw = msgspec.Raw()


_decoder: Final = msgspec.json.Decoder(_Ack)


class Gates(Generic[_T]):
    """What one receiver keeps back.

    Args:
        open_gate: Takes each message whose record is durable, in the order of their coming.
    """

    def __init__(self, open_gate: Callable[[_T], None]) -> None:
        self._open_gate = open_gate
        self._kept: dict[str, tuple[int, list[_T]]] = {}

    def keep(self, name: str, seq: int, message: _T) -> None:
        """Keep `message` until the gate `name` is acknowledged as sequence `seq`."""
        kept = self._kept.get(name)
        if kept is not None:
            kept[1].append(message)
            return
        self._kept[name] = (seq, [message])
        if len(self._kept) > GATED_MAX:
            del self._kept[next(iter(self._kept))]

    def hear(self, subject: str, payload: bytes) -> None:
        """Take an acknowledgement; of a frame that nothing here waits for it says nothing."""
        kept = self._kept.pop(gate_name(subject), None)
        if kept is None:
            return
        seq, messages = kept
        if _sequence_in(payload) == seq:
            for message in messages:
                self._open_gate(message)


def gate_name(subject: str) -> str:
    """Return the name of the gate that is acknowledged on `subject`."""
    return ".".join(subject.rsplit(".", 2)[1:])


def _sequence_in(payload: bytes) -> int:
    """Return the sequence that was acknowledged; 0: none was."""
    try:
        ack = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    return 0 if bytes(ack.error) else ack.seq
