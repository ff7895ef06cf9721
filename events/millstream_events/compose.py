"""From a plan's parts to the inputs of a call. Pure, and blind to the types of users.

Encoded values are put together as bytes: a map of parameters is the map's header, and each name
and value after another, whatever the value is. What comes out is what an ordinary call would have
been sent with, so ids, cache keys and readers are the same. Where a part lies in the blob store,
or must be converted, the attempt does it: the inputs are then the parts themselves.
"""

import contextlib
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from millstream_events.codec import MALFORMED
from millstream_events.ids import digest_of
from millstream_events.input_hash import hash_bytes, hash_without, inputs_hash
from millstream_events.plans import (
    Callee,
    Constant,
    Converted,
    Fields,
    Given,
    Items,
    Output,
    Part,
    Path,
    Raw,
    Result,
    Stored,
    parts_value,
)
from millstream_events.values import INLINE_BYTES_MAX, Blob, Inline, Value

_NIL: Final = b"\xc0"
_PLAIN: Final = "msgpack"
_CACHE_KEY_BYTES: Final = 32
_encoder: Final = msgspec.msgpack.Encoder()
_items: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_fields: Final = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


class PartError(Exception):
    """A value has no such element: it is not what the plan was checked against."""


class Elsewhere(Exception):
    """A part is not at hand as bytes."""


class Outcome(NamedTuple):
    """What a node has given."""

    action: bytes
    output: Value | None


class Sources(NamedTuple):
    """Where parts come from."""

    inputs: Value | None
    constants: Value | None
    outcome: Callable[[int], Outcome]


class Composed(NamedTuple):
    """Inputs of a call, and what stands for them in its id."""

    inputs: Value | None
    hash: bytes


def element(content: bytes, path: Path) -> bytes:
    """Return the bytes of one element of an encoded value.

    Raises:
        PartError: It has no such element.
    """
    for step in path:
        try:
            if isinstance(step, int):
                content = bytes(_items.decode(content)[step])
            else:
                content = bytes(_fields.decode(content)[step])
        except (*MALFORMED, LookupError) as exc:
            raise PartError(f"there is no element {step!r} in the value") from exc
    return content


def compose(part: Part, sources: Sources, ignored: tuple[str, ...] = ()) -> Composed:
    """Return the inputs that a bound node is called with.

    Raises:
        PartError: A value has no such element.
    """
    codec, content = _PLAIN, None
    with contextlib.suppress(Elsewhere):
        codec, content = _spliced(part, sources)
    if content is not None and len(content) <= INLINE_BYTES_MAX:
        return Composed(Inline(codec, content), hash_without(content, frozenset(ignored)))
    if isinstance(part, Fields) and ignored:
        kept = [name for name in part.names if name not in ignored]
        of = dict(zip(part.names, part.parts, strict=True))
        hashed: Part = Fields(tuple(kept), tuple(of[name] for name in kept))
    else:
        hashed = part
    return Composed(parts_value(_bound(part, sources)), _hash_of(hashed, sources))


def composed_result(part: Part | None, sources: Sources) -> Value | None:
    """Return what a graph gives.

    Raises:
        PartError: A value has no such element.
        Elsewhere: An attempt has to put it together.
    """
    if part is None:
        return None
    if isinstance(part, Output) and not part.path:
        return sources.outcome(part.node).output
    codec, content = _spliced(part, sources)
    if len(content) > INLINE_BYTES_MAX:
        raise Elsewhere
    return None if content == _NIL else Inline(codec, content)


def cache_key_of(callee: Callee, inputs_hash_: bytes) -> bytes:
    """Return the cache key of a call; empty: it is not cached."""
    if not callee.cache_parts:
        return b""
    return hash_bytes((inputs_hash_, *callee.cache_parts), size=_CACHE_KEY_BYTES)


def item_hash(content: bytes) -> bytes:
    """Return the hash of one encoded value, equal for equal values."""
    # `inputs_hash` takes the first byte for the header of the map of parameters.
    return inputs_hash(b"\x91" + content)


def splice(part: Part, fetched: Callable[[Part], tuple[str, bytes]]) -> tuple[str, bytes]:
    """Return codec and bytes of a part.

    Args:
        part: What is to be put together.
        fetched: Gives the same of each leaf, and of each `Converted`.
    """
    if isinstance(part, Raw):
        return part.codec, part.content
    if isinstance(part, Items):
        inner = [splice(each, fetched) for each in part.parts]
        return _codec_of(inner), _encoder.encode([msgspec.Raw(content) for _, content in inner])
    if isinstance(part, Fields):
        inner = [splice(each, fetched) for each in part.parts]
        named = zip(part.names, inner, strict=True)
        made = {name: msgspec.Raw(content) for name, (_, content) in named}
        return _codec_of(inner), _encoder.encode(made)
    return fetched(part)


def _codec_of(parts: list[tuple[str, bytes]]) -> str:
    return next((codec for codec, _ in parts if codec != _PLAIN), _PLAIN)


def _spliced(part: Part, sources: Sources) -> tuple[str, bytes]:
    def at_hand(leaf: Part) -> tuple[str, bytes]:
        value, path = _value_of(leaf, sources)
        if value is None:
            return _PLAIN, element(_NIL, path)
        if isinstance(value, Blob):
            raise Elsewhere
        return value.codec, element(value.content, path)

    return splice(part, at_hand)


def _value_of(leaf: Part, sources: Sources) -> tuple[Value | None, Path]:
    if isinstance(leaf, Given):
        return sources.inputs, leaf.path
    if isinstance(leaf, Constant):
        return sources.constants, (leaf.index,)
    if isinstance(leaf, Output):
        return sources.outcome(leaf.node).output, leaf.path
    if isinstance(leaf, Stored):
        return leaf.value, leaf.path
    raise Elsewhere


def _bound(part: Part, sources: Sources) -> Part:
    """Return the part with every leaf as bytes, a blob's element or an action's output."""
    if isinstance(part, Items):
        return Items(tuple(_bound(each, sources) for each in part.parts))
    if isinstance(part, Fields):
        return Fields(part.names, tuple(_bound(each, sources) for each in part.parts))
    if isinstance(part, Converted):
        return Converted(_bound(part.part, sources), part.source, part.target)
    if isinstance(part, Output):
        return Result(sources.outcome(part.node).action, part.path)
    if isinstance(part, Raw | Stored | Result):
        return part
    value, path = _value_of(part, sources)
    if isinstance(value, Inline):
        return Raw(element(value.content, path), value.codec)
    return Raw(_NIL) if value is None else Stored(value, path)


def _hash_of(part: Part, sources: Sources) -> bytes:
    """Return what stands for parts that nobody has put together yet.

    A blob stands for its content, so that this too follows from the values alone; but it is not
    what the same values have as bytes.
    """
    if isinstance(part, Raw):
        return item_hash(part.content)
    if isinstance(part, Constant):
        return part.digest
    if isinstance(part, Items):
        return hash_bytes([b"items", *(_hash_of(each, sources) for each in part.parts)])
    if isinstance(part, Fields):
        named = zip(part.names, part.parts, strict=True)
        inner = [each for name, p in named for each in (name.encode(), _hash_of(p, sources))]
        return hash_bytes([b"fields", *inner])
    if isinstance(part, Converted):
        return hash_bytes([b"converted", _hash_of(part.part, sources)])
    if isinstance(part, Result):
        return part.action
    value, path = _value_of(part, sources)
    if isinstance(value, Inline):
        return item_hash(element(value.content, path))
    digest = digest_of(_NIL) if value is None else value.digest
    return hash_bytes([b"element", digest, *(str(step).encode() for step in path)])
