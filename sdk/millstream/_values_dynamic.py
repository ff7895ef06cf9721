"""Shapes that look at the value itself: of `Any`, and of classes that have a codec."""

from collections.abc import Callable
from typing import Any, Final, cast

from msgspec.msgpack import Ext

from millstream import _values_codecs as codecs
from millstream._values_shapes import (
    Mismatch,
    NoneType,
    Shape,
    from_pickle,
    to_pickle,
)
from millstream._values_sink import Sink
from millstream._values_wire import (
    LEAF_PACKERS,
    Code,
    CodedPlain,
    Packed,
    Pairs,
    Pickled,
    coded_of,
    packed_of,
    pairs_of,
)

_NATIVE: Final = frozenset({NoneType, bool, int, float, str, bytes})
_SETS: Final[dict[type, int]] = {set: Code.SET, frozenset: Code.FROZENSET}
_PACKED_CLASS: Final[dict[int, Callable[[list[object]], object]]] = {
    Code.SET: set,
    Code.FROZENSET: frozenset,
    Code.TUPLE: tuple,
}


class DynamicShape:
    """`Any`, or no annotation: the value says what it is; other classes are pickled."""

    expected = "any value"
    native = None
    exact: tuple[type, ...] = ()
    kinds: frozenset[type] | None = None

    def to_plain(self, value: object, sink: Sink) -> object:
        cls = type(value)
        if cls in _NATIVE:
            return value
        if cls is list:
            return [self.to_plain(item, sink) for item in cast("list[object]", value)]
        if cls is dict:
            return self._dict_to_plain(cast("dict[object, object]", value), sink)
        if cls is tuple:
            items = [self.to_plain(item, sink) for item in cast("tuple[object, ...]", value)]
            return packed_of(Code.TUPLE, items)
        if cls in _SETS:
            members = [self.to_plain(item, sink) for item in cast("set[object]", value)]
            return packed_of(_SETS[cls], members)
        packer = LEAF_PACKERS.get(cls)
        packed = packer(value) if packer is not None else None
        if packed is not None:
            return packed
        codec = codecs.find(cls) if packer is None else None
        # Nothing would tell the reader which subclass it was.
        if codec is not None and (codec.cls is cls or getattr(codec, "keeps_class", False)):
            return code(codec, value, codecs.Site(cls=cls, sink=sink))
        return to_pickle(value, sink)

    def _dict_to_plain(self, value: dict[object, object], sink: Sink) -> object:
        if all(type(key) is str or type(key) is int for key in value):
            return {key: self.to_plain(item, sink) for key, item in value.items()}
        return pairs_of(
            (self.to_plain(key, sink), self.to_plain(item, sink)) for key, item in value.items()
        )

    def from_plain(self, plain: object) -> object:
        cls = type(plain)
        if cls is list:
            return [self.from_plain(item) for item in cast("list[object]", plain)]
        if cls is dict:
            items = cast("dict[object, object]", plain).items()
            return {key: self.from_plain(item) for key, item in items}
        if isinstance(plain, Pickled):
            return from_pickle(plain, self.expected)
        if isinstance(plain, CodedPlain):
            return uncode(plain, None, codecs.Site(cls=object))
        try:
            if isinstance(plain, Pairs):
                pairs = cast("list[list[object]]", plain)
                return {self.from_plain(key): self.from_plain(item) for key, item in pairs}
            if isinstance(plain, Packed):
                return _PACKED_CLASS[plain.code]([self.from_plain(item) for item in plain.items])
        except TypeError as exc:  # an unhashable key or member
            raise Mismatch(self.expected, plain) from exc
        return plain


DYNAMIC: Final = DynamicShape()


class LenientShape:
    """A field that nothing ever checked: what does not fit its annotation is pickled."""

    native = None
    exact: tuple[type, ...] = ()

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.expected = shape.expected
        self.kinds: frozenset[type] | None = None

    def to_plain(self, value: object, sink: Sink) -> object:
        try:
            return self._shape.to_plain(value, sink)
        except Mismatch:
            return to_pickle(value, sink)

    def from_plain(self, plain: object) -> object:
        if type(plain) is Pickled:
            return from_pickle(plain, self.expected)
        return self._shape.from_plain(plain)


# ------------------------------------------------------------------ codecs


def code(codec: codecs.Codec, value: object, site: codecs.Site) -> Ext:
    """Return `value` as its codec writes it."""
    try:
        made = codec.encode(value, site)
    except (TypeError, ValueError, AssertionError) as exc:
        problem = Mismatch(codec.cls.__qualname__, value)
        problem.got += f" ({exc})"
        raise problem from exc
    if made is NotImplemented:
        return to_pickle(value, site.sink)
    coded = made if isinstance(made, codecs.Coded) else codecs.Coded(made)
    record = DYNAMIC.to_plain(coded.record, site.sink)
    return coded_of(codec.name, record, coded.digest)


def uncode(plain: CodedPlain, expected: codecs.Codec | None, site: codecs.Site) -> object:
    """Return what a codec wrote, whichever it was."""
    found = expected is not None and expected.name == plain.name
    found = found or plain.name in getattr(expected, "reads", ())
    codec = expected if found else codecs.named(plain.name)
    if codec is None:
        problem = Mismatch("a value of a codec that is registered here", plain)
        problem.got = f"one of the codec {plain.name!r}; import the package that registers it"
        raise problem
    if codec is not expected:
        site = codecs.Site(cls=codec.cls)
    record = DYNAMIC.from_plain(plain.record)
    try:
        return cast("object", codec.decode(record, site))
    # The codec is foreign code: whatever it raises says that it cannot read its record.
    except Exception as exc:
        problem = Mismatch(codec.cls.__qualname__, plain)
        problem.got += f" that cannot be read ({type(exc).__name__}: {exc})"
        raise problem from exc


class CodedShape:
    """A class that has a codec."""

    native = None
    kinds: frozenset[type] | None = frozenset[type]({CodedPlain, Pickled})

    def __init__(
        self,
        codec: codecs.Codec,
        cls: type,
        args: tuple[Any, ...] = (),
        metadata: tuple[Any, ...] = (),
    ) -> None:
        self.expected = cls.__qualname__
        self.exact: tuple[type, ...] = (cls,)
        self._codec = codec
        self._cls = cls
        self._args = args
        self._metadata = metadata

    def annotated(self, metadata: tuple[Any, ...]) -> "CodedShape":
        """Return this shape with what `Annotated` adds."""
        return CodedShape(self._codec, self._cls, self._args, (*self._metadata, *metadata))

    def _site(self, sink: Sink) -> codecs.Site:
        return codecs.Site(cls=self._cls, args=self._args, metadata=self._metadata, sink=sink)

    def to_plain(self, value: object, sink: Sink) -> object:
        """Return the codec's record, as an extension."""
        codec = self._codec_of(value)
        if codec is None:
            return to_pickle(value, sink)
        return code(codec, value, self._site(sink))

    def _codec_of(self, value: object) -> codecs.Codec | None:
        own = self._codec
        if type(value) is own.cls:
            return own
        found = codecs.find(type(value))
        if isinstance(value, self._cls):
            # An instance of a subclass has a codec of its own, or this one, or none.
            if found is not None and found.cls is not own.cls:
                return found
            return own if getattr(own, "subclasses", False) else None
        if self._accepts(value):
            return own
        if found is None or not self._gives(found):
            raise Mismatch(self.expected, value)
        return found

    def _accepts(self, value: object) -> bool:
        return isinstance(value, codecs.accepted(self._codec)[1:])

    def _gives(self, codec: codecs.Codec | None) -> bool:
        gives = getattr(codec, "gives", None)
        return gives is not None and bool(gives(self._cls))

    def from_plain(self, plain: object) -> object:
        """Return what the codec makes of its record."""
        if type(plain) is Pickled:
            value = from_pickle(plain, self.expected)
        elif type(plain) is CodedPlain:
            value = uncode(plain, self._codec, self._site(Sink()))
            codec = codecs.named(plain.name)
            if not isinstance(value, self._cls) and self._gives(codec):
                value = cast("Any", codec).convert(value, self._cls)
        else:
            raise Mismatch(self.expected, plain)
        if not isinstance(value, self._cls) and not self._accepts(value):
            raise Mismatch(self.expected, value)
        return value
