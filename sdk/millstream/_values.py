"""Values to bytes and back, by annotation.

`codec` says who can read the bytes: "msgpack" anybody, "pickle" (the same format, with at least
one pickled part) a task process that has the classes. Both are exact: what comes back equals
what was sent, has its class, its order and its time zone.
"""

import collections.abc
import datetime as dt
import decimal
import enum
import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NewType, Union, cast

from millstream import _values_codecs
from millstream._values_containers import (
    DictShape,
    FixedTupleShape,
    ListShape,
    SetShape,
    TupleShape,
)
from millstream._values_describe import is_named_tuple, is_typed_dict
from millstream._values_dynamic import DYNAMIC, CodedShape
from millstream._values_records import (
    TypedDictShape,
    named_tuple_shape,
    record_shape,
)
from millstream._values_shapes import (
    SCALARS,
    DateShape,
    EnumShape,
    LeafShape,
    LiteralShape,
    Mismatch,
    PickleShape,
    Shape,
    TimestampShape,
    UnionShape,
)
from millstream._values_sink import Sink
from millstream._values_wire import (
    INPUTS_HASH_BYTES,
    MALFORMED,
    hash_bytes,
    hash_of_many,
    hash_without,
    inputs_hash,
    pack,
    unpack,
)
from millstream.errors import RuntimeDataValidationError

CODEC_MSGPACK: Final = "msgpack"
CODEC_PICKLE: Final = "pickle"
_CODECS: Final = (CODEC_MSGPACK, CODEC_PICKLE)

_PATH_CLASSES: Final = (
    type(pathlib.Path()),
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
)
_LEAVES: Final[dict[object, Shape]] = {
    dt.datetime: LeafShape(dt.datetime),
    dt.date: LeafShape(dt.date),
    dt.time: LeafShape(dt.time),
    dt.timedelta: LeafShape(dt.timedelta),
    decimal.Decimal: LeafShape(decimal.Decimal),
    uuid.UUID: LeafShape(uuid.UUID),
    complex: LeafShape(complex),
    pathlib.Path: LeafShape(pathlib.Path, classes=(type(pathlib.Path()),)),
    pathlib.PurePath: LeafShape(pathlib.PurePath, classes=_PATH_CLASSES),
    pathlib.PosixPath: LeafShape(pathlib.PosixPath),
    pathlib.PurePosixPath: LeafShape(pathlib.PurePosixPath),
    pathlib.PureWindowsPath: LeafShape(pathlib.PureWindowsPath),
}
_WRAPPERS: Final = (typing.Required, typing.NotRequired, typing.Final)

#: Abstract containers, as the concrete ones that a value of them may be.
_ABSTRACT: Final[dict[object, tuple[type, ...]]] = {
    collections.abc.Sequence: (list, tuple),
    collections.abc.MutableSequence: (list,),
    collections.abc.Set: (set, frozenset),
    collections.abc.MutableSet: (set,),
    collections.abc.Mapping: (dict,),
    collections.abc.MutableMapping: (dict,),
    collections.abc.Iterable: (list, tuple, set, frozenset),
    collections.abc.Collection: (list, tuple, set, frozenset),
}


class _Shapes:
    """Shapes by annotation, each made once."""

    def __init__(self, known: Mapping[object, Shape]) -> None:
        self._known = known
        self._shapes: dict[object, Shape] = dict(known)
        #: Makes the shapes of what is inside a record.
        self.inner = self

    def forget(self) -> None:
        """Make all of them anew: a codec was added."""
        self._shapes = dict(self._known)

    def of(self, annotation: object) -> Shape:
        """Return the shape of an annotation."""
        # A union or Literal of the same members compares equal in another order, or with True
        # for 1.
        key = (annotation, repr(annotation)) if not isinstance(annotation, type) else annotation
        try:
            known = self._shapes.get(key)
        except TypeError:  # an annotation that cannot be hashed, such as Annotated[int, []]
            return self._make(annotation)
        if known is None:
            known = self._shapes[key] = self._make(annotation)
        return known

    def _make(self, annotation: object) -> Shape:
        if annotation is Any or annotation is object:
            return DYNAMIC
        if annotation is None:
            return SCALARS[None]
        origin = typing.get_origin(annotation)
        args = typing.get_args(annotation)
        if origin is Annotated:
            return self._annotated(args[0], args[1:])
        if origin in _WRAPPERS:
            return self.of(args[0])
        if origin is Literal:
            return LiteralShape(args)
        if origin is Union or origin is types.UnionType:
            return UnionShape([self.of(arm) for arm in args])
        if isinstance(annotation, NewType):
            return self.of(annotation.__supertype__)
        if isinstance(annotation, typing.TypeVar):
            return self._type_variable(annotation)
        # What a `type` statement makes, from Python 3.12 on.
        if type(annotation).__name__ == "TypeAliasType":
            return self.of(cast("Any", annotation).__value__)
        cls = origin if origin is not None else annotation
        if cls in _ABSTRACT:
            # Any of them holds items of one kind, also the tuple.
            arms = [
                self._container(c, (*args, ...) if c is tuple else args) for c in _ABSTRACT[cls]
            ]
            return arms[0] if len(arms) == 1 else UnionShape(arms)
        if cls in (list, tuple, set, frozenset, dict):
            return self._container(cast("type", cls), args)
        if isinstance(cls, type):
            return self._class_shape(cast("type[object]", cls), args)
        if is_typed_dict(annotation):
            return TypedDictShape(cast("type", annotation), self.inner.of)
        return PickleShape(str(annotation), None)

    def _annotated(self, annotation: object, metadata: tuple[object, ...]) -> Shape:
        for each in metadata:
            codec = _values_codecs.codec_in(each)
            if codec is not None:
                return CodedShape(codec, codec.cls, typing.get_args(annotation), metadata)
        shape = self.of(annotation)
        return shape.annotated(metadata) if isinstance(shape, CodedShape) else shape

    def _type_variable(self, variable: typing.TypeVar) -> Shape:
        if variable.__constraints__:
            return UnionShape([self.of(arm) for arm in variable.__constraints__])
        return self.of(variable.__bound__ or Any)

    def _container(self, cls: type, args: tuple[object, ...]) -> Shape:
        if cls is dict:
            key, item = args if len(args) == 2 else (Any, Any)
            return DictShape(self.of(key), self.of(item))
        if cls is tuple:
            if not args or args[0] is Ellipsis:
                return TupleShape(DYNAMIC)
            if args[-1] is Ellipsis:
                return TupleShape(self.of(args[0]))
            return FixedTupleShape(tuple(self.of(arg) for arg in args))
        item = self.of(args[0]) if args else DYNAMIC
        return ListShape(item) if cls is list else SetShape(cls, item)

    def _class_shape(self, cls: type[object], args: tuple[object, ...]) -> Shape:
        codec = _values_codecs.find(cls)
        if codec is not None:
            return CodedShape(codec, cls, args)
        if getattr(cls, "__always_pickled__", False):
            return PickleShape("any value", None)
        if issubclass(cls, enum.Enum):
            return EnumShape(cls)
        record = record_shape(cls, args, self.inner.of)
        if record is not None:
            return record
        # isinstance() of a protocol works only where it says so.
        is_open = getattr(cls, "_is_protocol", False) and not getattr(
            cls, "_is_runtime_protocol", False
        )
        return PickleShape(cls.__qualname__, None if is_open else cls)


#: Inside a record a datetime stays as it is; elsewhere one without a zone is taken for UTC, as
#: in Flyte, where such a datetime is a timestamp and such a record is JSON.
_inner: Final = _Shapes({**SCALARS, **_LEAVES})
_outer: Final = _Shapes({**SCALARS, **_LEAVES, dt.datetime: TimestampShape(), dt.date: DateShape()})
_outer.inner = _inner


def _forget_shapes() -> None:
    _inner.forget()
    _outer.forget()


_values_codecs.listen(_forget_shapes)


def shape_of(annotation: object) -> Shape:
    """Return the shape of an annotation; made once for each."""
    return _outer.of(annotation)


def result_shape(annotation: object) -> Shape:
    """Return the shape of what a function returns: a named tuple is several results."""
    if is_named_tuple(annotation):
        return named_tuple_shape(cast("type", annotation), shape_of)
    return shape_of(annotation)


def codec_name(sink: Sink) -> str:
    """Return the codec of bytes for which these pickles were needed."""
    return CODEC_PICKLE if sink.pickles else CODEC_MSGPACK


def refuse(problem: Mismatch, where: str, task: str = "") -> RuntimeDataValidationError:
    """Return the error for a value at `where` that does not fit."""
    place = where + "".join(problem.path)
    return RuntimeDataValidationError(place, problem.expected, problem.got, task)


def read(codec: str, content: bytes, where: str, task: str = "") -> object:
    """Return the plain tree in `content`.

    Raises:
        RuntimeDataValidationError: The bytes are no value, or of a codec that is not known.
    """
    if codec not in _CODECS:
        raise RuntimeDataValidationError(where, f"one of the codecs {_CODECS}", codec, task)
    try:
        return unpack(content)
    except MALFORMED as exc:
        got = f"{len(content)} bytes that are none: {exc}"
        raise RuntimeDataValidationError(where, "an encoded value", got, task) from exc


def guarded(convert: Callable[[], object], where: str, task: str = "") -> object:
    """Return `convert()`, its mismatch mapped.

    Raises:
        RuntimeDataValidationError: The value does not fit, or is nested too deeply.
    """
    try:
        return convert()
    except Mismatch as problem:
        raise refuse(problem, where, task) from problem.__cause__
    except RecursionError as exc:
        raise RuntimeDataValidationError(
            where, "a value with less nesting", "one that is nested too deeply, or in itself", task
        ) from exc


def encode(
    value: object, annotation: object = Any, *, where: str = "value", sink: Sink | None = None
) -> tuple[str, bytes]:
    """Return codec and bytes of `value`.

    Args:
        value: What to encode.
        annotation: What it is declared as; `Any` keeps the exact type of plain values.
        where: Name to use in an error.
        sink: Takes what must be done before the bytes leave.

    Raises:
        RuntimeDataValidationError: The value does not fit the annotation.
        RestrictedTypeError: The value needs to be pickled and cannot be.
    """
    shape = shape_of(annotation)
    sink = Sink() if sink is None else sink
    content = guarded(lambda: pack(shape.to_plain(value, sink)), where)
    return codec_name(sink), cast("bytes", content)


def decode(codec: str, content: bytes, annotation: object = Any, *, where: str = "value") -> object:
    """Return the value in `content`.

    Raises:
        RuntimeDataValidationError: The bytes hold no value of that annotation.
    """
    shape = shape_of(annotation)
    plain = read(codec, content, where)
    return guarded(lambda: shape.from_plain(plain), where)


__all__ = [
    "CODEC_MSGPACK",
    "CODEC_PICKLE",
    "INPUTS_HASH_BYTES",
    "codec_name",
    "decode",
    "encode",
    "guarded",
    "hash_bytes",
    "hash_of_many",
    "hash_without",
    "inputs_hash",
    "pack",
    "read",
    "refuse",
    "result_shape",
    "shape_of",
]
