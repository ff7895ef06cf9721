"""What an action of kind map takes and gives: the inputs, and the outcomes, of many items.

A long `map` calls its task for thousands of items at once: one request, one dispatch and one
success for all of them. The items of such an action begin one after the other, in the order of
the inputs, and none is given up once it has begun: so what has been done of them is always a
beginning of the whole (design: decision 18).
Both structs are values with codecs of their own, inline or in the blob store like any other.
"""

from typing import Final, TypeAlias

import msgspec

from millstream_events.values import Blob, ErrorRecord, Inline, Items

CODEC_ITEMS: Final = "items"
CODEC_OUTCOMES: Final = "item-outcomes"
#: Most items of one action.
ACTION_ITEMS_MAX: Final = 4_096
#: An action's items are cut where their inputs, or their outcomes, are over this size together.
ACTION_BYTES_MAX: Final = 1024 * 1024
#: An item with larger inputs is an action of its own.
ITEM_BYTES_MAX: Final = 64 * 1024

#: `ItemsEnded.left`: why the items after the last outcome were not run. They took longer than
#: was expected; their outcomes are large; the next one needs what only an action has (calls,
#: steps, a name of its own); one failed, and the caller wants no more.
LEFT_TIME: Final = "time"
LEFT_BYTES: Final = "bytes"
LEFT_OWN: Final = "own-action"
LEFT_FAILED: Final = "failed"


class ItemInputs(msgspec.Struct, frozen=True, array_like=True):
    """The inputs of an action's items."""

    #: Number of the first one within the whole map: no two actions of a map are alike.
    first: int
    #: How to read each of `contents`: what the call of that item alone would take.
    codec: str
    contents: tuple[bytes, ...]
    #: The first failure ends it.
    stops: bool = False
    #: Async items that wait may run so many at once.
    width: int = 1


class ItemFailed(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """An item that raised, in its last attempt."""

    error: ErrorRecord


class ItemLeft(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """An item that needs an action of its own, while others behind it ran."""


#: What an item gave: an encoded MessagePack value, None, a value of another codec, or one that
#: is kept in the blob store by itself; or how it failed, or that it is left.
ItemOutcome: TypeAlias = bytes | Inline | Blob | ItemFailed | ItemLeft | None


class ItemsEnded(msgspec.Struct, frozen=True, array_like=True):
    """What became of an action's items."""

    #: Of the first items, in order.
    outcomes: tuple[ItemOutcome, ...]
    #: Empty: all of them ran.
    left: str = ""
    #: From the first item to the last; the slowest one; the sum of what each took.
    ran_ns: int = 0
    slowest_ns: int = 0
    spent_ns: int = 0

    def counted(self, total: int) -> Items:
        """Return how many of `total` items came to which end."""
        failed = sum(isinstance(outcome, ItemFailed) for outcome in self.outcomes)
        left = sum(isinstance(outcome, ItemLeft) for outcome in self.outcomes)
        return Items(total, len(self.outcomes) - failed - left, failed)


_encoder: Final = msgspec.msgpack.Encoder()
_inputs_decoder: Final = msgspec.msgpack.Decoder(ItemInputs)
_ended_decoder: Final = msgspec.msgpack.Decoder(ItemsEnded)


def encode_items(items: ItemInputs | ItemsEnded) -> bytes:
    """Return the bytes of a value of `CODEC_ITEMS` or `CODEC_OUTCOMES`."""
    return _encoder.encode(items)


def decode_item_inputs(content: bytes) -> ItemInputs:
    """Return the inputs of an action's items.

    Raises:
        msgspec.DecodeError: No such value.
    """
    return _inputs_decoder.decode(content)


def decode_items_ended(content: bytes) -> ItemsEnded:
    """Return what became of an action's items.

    Raises:
        msgspec.DecodeError: No such value.
    """
    return _ended_decoder.decode(content)
