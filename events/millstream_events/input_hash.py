"""What stands for the inputs of a call in its id and in its cache key.

Equal inputs have equal hashes, whatever the order inside their dicts and sets, and whatever
process pickled them. The values themselves are of no concern here: `Code` names the extensions
in which the SDK (`millstream._values_wire`) keeps what MessagePack has no type for.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final, cast

import msgspec
from msgspec.msgpack import Ext

from millstream_events.codec import MALFORMED

_encoder: Final = msgspec.msgpack.Encoder()
_raw_decoder: Final = msgspec.msgpack.Decoder()


class Code:
    """Extension types. Stored: never renumber.

    Negative ones may differ in bytes for equal values (order, copies of classes): as bytes
    they lie where the headers of maps lie, so that one scan finds all that `canonical` sorts.
    """

    PAIRS: Final = -128
    PICKLE: Final = -127
    SET: Final = -126
    FROZENSET: Final = -125
    TUPLE: Final = -124
    CODED: Final = -123
    BIG_INT: Final = 1
    TEXT: Final = 2
    DATETIME: Final = 3
    DATE: Final = 4
    TIME: Final = 5
    TIMEDELTA: Final = 6
    DECIMAL: Final = 7
    UUID: Final = 8
    PATH: Final = 9
    COMPLEX: Final = 10


#: A header of a map, or the code of an extension whose bytes may differ for equal values. May
#: also match inside a text or number, which costs time and nothing else.
_UNORDERED: Final = re.compile(rb"[\x80-\x8f\xde\xdf]")
_NESTED: Final = frozenset({Code.SET, Code.FROZENSET, Code.TUPLE})

INPUTS_HASH_BYTES: Final = 16


def hash_bytes(parts: Sequence[bytes], *, size: int = INPUTS_HASH_BYTES) -> bytes:
    """Return a blake2b hash over `parts`; where one ends and the next begins counts."""
    framed = [piece for part in parts for piece in (len(part).to_bytes(8, "big"), part)]
    return hashlib.blake2b(b"".join(framed), digest_size=size).digest()


def inputs_hash(content: bytes | None) -> bytes:
    """Return 16 bytes that are equal for equal inputs, whatever the order inside dicts.

    `content` is an encoded value, or None for a call without parameters.
    """
    if content is None:
        return bytes(INPUTS_HASH_BYTES)
    # The first byte is the map of parameters, which has the order of the signature.
    if _UNORDERED.search(content, 1) is None:
        return hashlib.blake2b(content, digest_size=INPUTS_HASH_BYTES).digest()
    try:
        content = _encoder.encode(_canonical(_raw_decoder.decode(content)))
    except MALFORMED:
        return hashlib.blake2b(content, digest_size=INPUTS_HASH_BYTES).digest()
    return hashlib.blake2b(content, digest_size=INPUTS_HASH_BYTES).digest()


def hash_of_many(contents: Iterable[bytes], *, salt: bytes) -> bytes:
    """Return 16 bytes that are equal for equal inputs of many calls, in their order."""
    plain = (c if _UNORDERED.search(c, 1) is None else inputs_hash(c) for c in contents)
    return hash_bytes([salt, *plain])


def hash_without(content: bytes | None, ignored: frozenset[str]) -> bytes:
    """Return `inputs_hash` of `content` without these parameters."""
    if content is None or not ignored:
        return inputs_hash(content)
    try:
        inputs = _raw_decoder.decode(content)
    except MALFORMED:
        return inputs_hash(content)
    if type(inputs) is not dict:
        return inputs_hash(content)
    kept = {k: v for k, v in cast("dict[object, object]", inputs).items() if k not in ignored}
    return inputs_hash(_encoder.encode(kept))


def _canonical(plain: object) -> object:
    """Return a tree that encodes to the same bytes for every order of dicts and sets."""
    if type(plain) is dict:
        return _sorted_pairs(cast("dict[object, object]", plain).items())
    if type(plain) is list or type(plain) is tuple:
        return [_canonical(item) for item in cast("list[object]", plain)]
    if type(plain) is Ext:
        if plain.code == Code.PICKLE:
            return Ext(Code.PICKLE, _pickle_digest(bytes(plain.data)))
        if plain.code == Code.CODED:
            name, record, digest = coded_parts(bytes(plain.data))
            stands = digest or _canonical(_raw_decoder.decode(record))
            return Ext(Code.CODED, _encoder.encode([name, stands]))
        if plain.code == Code.PAIRS:
            return _sorted_pairs(
                msgspec.msgpack.decode(plain.data, type=list[tuple[object, object]])
            )
        if plain.code in _NESTED:
            items = [_encoder.encode(_canonical(item)) for item in raw_list(bytes(plain.data))]
            ordered = items if plain.code == Code.TUPLE else sorted(items)
            return Ext(plain.code, b"".join(ordered))
    return plain


def raw_list(data: bytes) -> list[object]:
    """Return the items of an encoded list, what is inside extensions not looked at."""
    return msgspec.msgpack.decode(data, type=list[object])


def _sorted_pairs(pairs: Iterable[Sequence[object]]) -> Ext:
    ordered = sorted(_encoder.encode([_canonical(part) for part in pair]) for pair in pairs)
    return Ext(Code.PAIRS, b"".join(ordered))


def _pickle_digest(data: bytes) -> bytes:
    match raw_list(data):
        case [bytes() as digest, *_]:
            return digest
        case _:
            return data


def coded_parts(data: bytes) -> tuple[str, msgspec.Raw, bytes]:
    """Return name, record and digest of what a codec wrote."""
    return msgspec.msgpack.decode(data, type=tuple[str, msgspec.Raw, bytes])
