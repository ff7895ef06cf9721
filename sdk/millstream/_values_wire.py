"""How values look as bytes: MessagePack, and the extension types that make it exact.

A value is turned into a *plain tree* first (None, bool, int, float, str, bytes, list, dict with
str or int keys, `Ext`), by the shapes of `_values_shapes`. What MessagePack has no type for goes
into an extension. Leaves come back from the decoder as the objects they were; containers come
back as `Pairs` and `Packed`, since what is inside still needs its shape; `Pickled` comes back
closed, so that reading a message never runs code.
"""

import datetime as dt
import decimal
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable, Iterable
from typing import Final, cast

import msgspec
from msgspec.msgpack import Ext

from millstream_events.codec import MALFORMED as _MSGSPEC_MALFORMED
from millstream_events.input_hash import (
    INPUTS_HASH_BYTES,
    Code,
    coded_parts,
    hash_bytes,
    hash_of_many,
    hash_without,
    inputs_hash,
    raw_list,
)

__all__ = [
    "INPUTS_HASH_BYTES",
    "LEAF_PACKERS",
    "MALFORMED",
    "Code",
    "CodedPlain",
    "MalformedValueError",
    "Packed",
    "Pairs",
    "Pickled",
    "coded_of",
    "hash_bytes",
    "hash_of_many",
    "hash_without",
    "inputs_hash",
    "pack",
    "packed_of",
    "pairs_of",
    "unpack",
]


class MalformedValueError(ValueError):
    """An extension holds something that no writer of ours puts there."""


#: What `unpack` raises on bytes that are no value.
MALFORMED: Final = (*_MSGSPEC_MALFORMED, MalformedValueError)

#: What the parsers of the standard library raise on text that they cannot read.
_PARSE_ERRORS: Final = (ValueError, TypeError, ArithmeticError, LookupError, OSError)


class Pairs(list[object]):
    """A dict with keys that a MessagePack map cannot have: `[key, value]` items, in order."""


class Packed(msgspec.Struct, frozen=True):
    """A tuple, set or frozenset of which only the value itself says what it is."""

    code: int
    items: list[object]


class Pickled(msgspec.Struct, frozen=True):
    """A pickled value, still closed. `digest` is the same in every process."""

    digest: bytes
    content: bytes
    #: What its producer saw of it, for people to read.
    preview: str = ""


class CodedPlain(msgspec.Struct, frozen=True):
    """What a codec wrote. `digest`, where there is one, stands for `record` in hashes."""

    name: str
    record: object
    digest: bytes


_INT64_MIN: Final = -(2**63)
_UINT64_MAX: Final = 2**64 - 1
_encoder: Final = msgspec.msgpack.Encoder()


def pack(plain: object) -> bytes:
    """Return the bytes of a plain tree."""
    try:
        return _encoder.encode(plain)
    except (OverflowError, UnicodeEncodeError):
        return _encoder.encode(_widen(plain))


def _widen(plain: object) -> object:
    """Return `plain` with integers beyond 64 bits and lone surrogates in extensions."""
    if type(plain) is int:
        if _INT64_MIN <= plain <= _UINT64_MAX:
            return plain
        size = plain.bit_length() // 8 + 1
        return Ext(Code.BIG_INT, plain.to_bytes(size, "big", signed=True))
    if type(plain) is str:
        try:
            plain.encode()
        except UnicodeEncodeError:
            return Ext(Code.TEXT, plain.encode("utf-8", "surrogatepass"))
        return plain
    if type(plain) is list:
        return [_widen(item) for item in cast("list[object]", plain)]
    if type(plain) is dict:
        pairs = [(_widen(k), _widen(v)) for k, v in cast("dict[object, object]", plain).items()]
        if any(type(key) is Ext for key, _ in pairs):
            return pairs_of(pairs)
        return dict(pairs)
    return plain


def pairs_of(pairs: Iterable[tuple[object, object]]) -> Ext:
    """Return the extension for a dict whose keys are not all str or int."""
    return Ext(Code.PAIRS, pack([[key, value] for key, value in pairs]))


def packed_of(code: int, items: list[object]) -> Ext:
    """Return the extension for a tuple or set; the items of a set are put in order."""
    if code != Code.TUPLE:
        items = sorted(items, key=pack)
    return Ext(code, pack(items))


def coded_of(name: str, record: object, digest: bytes) -> Ext:
    """Return the extension for what the codec `name` wrote."""
    return Ext(Code.CODED, pack([name, record, digest]))


def _zoned(text: str, zone: str, fold: int) -> str:
    return f"{text}|{zone}|{fold}" if zone or fold else text


def _zone_key(tzinfo: dt.tzinfo | None) -> str | None:
    """Return the key of an IANA zone, "" for none or a fixed offset, None for another class."""
    if tzinfo is None or type(tzinfo) is dt.timezone:
        return ""
    return tzinfo.key if type(tzinfo) is zoneinfo.ZoneInfo else None


def _pack_datetime(value: dt.datetime) -> Ext | None:
    zone = _zone_key(value.tzinfo)
    if zone is None:
        return None
    shown = value.replace(tzinfo=None) if zone else value
    return Ext(Code.DATETIME, _zoned(shown.isoformat(), zone, value.fold).encode())


def _pack_time(value: dt.time) -> Ext | None:
    zone = _zone_key(value.tzinfo)
    if zone is None:
        return None
    shown = value.replace(tzinfo=None) if zone else value
    return Ext(Code.TIME, _zoned(shown.isoformat(), zone, value.fold).encode())


def _unzoned(data: bytes) -> tuple[str, dt.tzinfo | None, int]:
    text, *rest = data.decode().split("|")
    zone, fold = rest or ("", "0")
    return text, zoneinfo.ZoneInfo(zone) if zone else None, int(fold)


def _unpack_datetime(data: bytes) -> dt.datetime:
    text, zone, fold = _unzoned(data)
    value = dt.datetime.fromisoformat(text)
    return value.replace(tzinfo=zone or value.tzinfo, fold=fold)


def _unpack_time(data: bytes) -> dt.time:
    text, zone, fold = _unzoned(data)
    value = dt.time.fromisoformat(text)
    return value.replace(tzinfo=zone or value.tzinfo, fold=fold)


def _unpack_timedelta(data: bytes) -> dt.timedelta:
    days, seconds, micros = msgspec.msgpack.decode(data, type=tuple[int, int, int])
    return dt.timedelta(days, seconds, micros)


def _unpack_complex(data: bytes) -> complex:
    real, imag = msgspec.msgpack.decode(data, type=tuple[float, float])
    return complex(real, imag)


_PATHS: Final[dict[str, type[pathlib.PurePath]]] = {
    "p": pathlib.Path,
    "x": pathlib.PurePosixPath,
    "w": pathlib.PureWindowsPath,
}


def _pack_path(value: pathlib.PurePath) -> Ext:
    kind = "p" if isinstance(value, pathlib.Path) else "w"
    if type(value) is pathlib.PurePosixPath:
        kind = "x"
    return Ext(Code.PATH, (kind + str(value)).encode("utf-8", "surrogatepass"))


def _unpack_path(data: bytes) -> pathlib.PurePath:
    text = data.decode("utf-8", "surrogatepass")
    return _PATHS[text[:1]](text[1:])


def _pack_timedelta(value: dt.timedelta) -> Ext:
    return Ext(Code.TIMEDELTA, _encoder.encode([value.days, value.seconds, value.microseconds]))


def _pack_date(value: dt.date) -> Ext:
    return Ext(Code.DATE, value.isoformat().encode())


def _pack_decimal(value: decimal.Decimal) -> Ext:
    return Ext(Code.DECIMAL, str(value).encode())


def _pack_uuid(value: uuid.UUID) -> Ext:
    return Ext(Code.UUID, value.bytes)


def _pack_complex(value: complex) -> Ext:
    return Ext(Code.COMPLEX, _encoder.encode([value.real, value.imag]))


#: Leaves by exact class. None: an instance that bytes cannot hold exactly (a foreign tzinfo).
LEAF_PACKERS: Final[dict[type, Callable[..., Ext | None]]] = {
    dt.datetime: _pack_datetime,
    dt.date: _pack_date,
    dt.time: _pack_time,
    dt.timedelta: _pack_timedelta,
    decimal.Decimal: _pack_decimal,
    uuid.UUID: _pack_uuid,
    type(pathlib.Path()): _pack_path,
    pathlib.PurePosixPath: _pack_path,
    pathlib.PureWindowsPath: _pack_path,
    complex: _pack_complex,
}


def _packed(code: int) -> Callable[[bytes], Packed]:
    return lambda data: Packed(code, _list_of(data))


def _list_of(data: bytes) -> list[object]:
    items = unpack(data)
    if type(items) is not list:
        raise MalformedValueError("an extension without its list")
    return cast("list[object]", items)


def _unpack_pairs(data: bytes) -> Pairs:
    pairs = _list_of(data)
    if any(type(pair) is not list or len(cast("list[object]", pair)) != 2 for pair in pairs):
        raise MalformedValueError("a pair that is none")
    return Pairs(pairs)


def _unpack_pickled(data: bytes) -> Pickled:
    # The preview came later than the format: it may be missing.
    match raw_list(data):
        case [bytes() as digest, bytes() as content, str() as preview]:
            return Pickled(digest, content, preview)
        case [bytes() as digest, bytes() as content]:
            return Pickled(digest, content)
        case _:
            raise MalformedValueError("a pickle without its bytes")


def _unpack_coded(data: bytes) -> CodedPlain:
    name, record, digest = coded_parts(data)
    return CodedPlain(name, unpack(record), digest)


_UNPACKERS: Final[dict[int, Callable[[bytes], object]]] = {
    Code.PAIRS: _unpack_pairs,
    Code.PICKLE: _unpack_pickled,
    Code.CODED: _unpack_coded,
    Code.SET: _packed(Code.SET),
    Code.FROZENSET: _packed(Code.FROZENSET),
    Code.TUPLE: _packed(Code.TUPLE),
    Code.BIG_INT: lambda data: int.from_bytes(data, "big", signed=True),
    Code.TEXT: lambda data: data.decode("utf-8", "surrogatepass"),
    Code.DATETIME: _unpack_datetime,
    Code.DATE: lambda data: dt.date.fromisoformat(data.decode()),
    Code.TIME: _unpack_time,
    Code.TIMEDELTA: _unpack_timedelta,
    Code.DECIMAL: lambda data: decimal.Decimal(data.decode()),
    Code.UUID: lambda data: uuid.UUID(bytes=data),
    Code.PATH: _unpack_path,
    Code.COMPLEX: _unpack_complex,
}


def _ext_hook(code: int, payload: memoryview) -> object:
    unpacker = _UNPACKERS.get(code)
    if unpacker is None:
        raise MalformedValueError(f"unknown extension {code}")
    try:
        return unpacker(bytes(payload))
    except MALFORMED:
        raise
    except _PARSE_ERRORS as exc:
        raise MalformedValueError(f"extension {code}: {exc}") from exc


_decoder: Final = msgspec.msgpack.Decoder(ext_hook=_ext_hook)


def unpack(content: bytes) -> object:
    """Return the plain tree in `content`.

    Raises:
        MALFORMED: One of these classes: `content` is no value of ours.
    """
    return _decoder.decode(content)
