"""Events, frames and messages to bytes and back.

MessagePack arrays by msgspec: the position of a field is its name. A reader accepts a shorter
tail (an older writer: the defaults stand) and a longer one (a newer writer: the rest is
ignored). A frame with an event tag that this version does not know is decoded as an
`OpaqueFrame`, whose run is then quarantined; nothing else of the shard is affected.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from millstream_events.errors import LogCorruptError
from millstream_events.model import FRAME_FORMAT, Event, Frame

_T = TypeVar("_T")

#: No message of ours is larger, headers included: `max_payload` of NATS is 1 MiB by default,
#: and a client that exceeds it is cut off for good (design: tried.md 9).
MESSAGE_BYTES_MAX: Final = 1024 * 1024 - 4 * 1024


class OpaqueFrame(msgspec.Struct, frozen=True, array_like=True):
    """A frame of which at least one event is from a newer version: counted, not understood."""

    format: int
    epoch: int
    number: int
    ts_ns: int
    rev: int
    prev: bytes
    events: tuple[msgspec.Raw, ...]


_encoder: Final = msgspec.msgpack.Encoder()
_frame_decoder: Final = msgspec.msgpack.Decoder(Frame)
_opaque_decoder: Final = msgspec.msgpack.Decoder(OpaqueFrame)

#: What a decoder of msgspec may raise on bytes that nobody of ours wrote. The last two are no
#: `msgspec.DecodeError`: invalid UTF-8 inside a string, and nesting deeper than the stack.
MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(message: msgspec.Struct) -> bytes:
    """Return the bytes of any of our structs."""
    return _encoder.encode(message)


def encode_frame(
    *, epoch: int, number: int, ts_ns: int, rev: int, prev: bytes, events: Sequence[Event]
) -> bytes:
    """Return one encoded frame of the current format."""
    return _encoder.encode(Frame(FRAME_FORMAT, epoch, number, ts_ns, rev, prev, tuple(events)))


def decode_frame(payload: bytes, *, key: str, seq: int) -> Frame | OpaqueFrame:
    """Return the frame stored at stream sequence `seq` under `key`.

    Raises:
        LogCorruptError: Not a frame at all, of any version.
    """
    try:
        frame = _frame_decoder.decode(payload)
    except MALFORMED:
        try:
            return _opaque_decoder.decode(payload)
        except MALFORMED as exc:
            raise LogCorruptError(key, seq, f"not a frame: {exc}") from exc
    if frame.format != FRAME_FORMAT:
        return _opaque_decoder.decode(payload)
    return frame


def decoder_of(kind: type[_T]) -> Callable[[bytes], _T | None]:
    """Return a decoder of `kind` that answers None to whatever is not one.

    Core NATS carries what anybody with a credential sends, so a receiver counts and drops
    what it cannot read; it never raises on it.
    """
    decoder = msgspec.msgpack.Decoder(kind)

    def decode(payload: bytes) -> _T | None:
        try:
            return decoder.decode(payload)
        except MALFORMED:
            return None

    return decode


def split(
    items: Sequence[_T], pack: Callable[[Sequence[_T]], bytes], *, limit_bytes: int
) -> list[tuple[int, bytes]]:
    """Pack `items` into as few messages as fit, in order.

    Args:
        items: What to send; may be empty, which gives one message.
        pack: Encodes a run of items with its envelope.
        limit_bytes: Most that one message may take, envelope included.

    Returns:
        For each message the index of its first item and its bytes. A single item over the
        limit is a message of its own: the bus refuses it with a typed error.
    """
    packed = pack(items)
    if len(packed) <= limit_bytes or len(items) <= 1:
        return [(0, packed)]
    half = len(items) // 2
    head = split(items[:half], pack, limit_bytes=limit_bytes)
    tail = split(items[half:], pack, limit_bytes=limit_bytes)
    return head + [(half + first, message) for first, message in tail]
