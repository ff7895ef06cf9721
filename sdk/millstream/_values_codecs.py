"""Codecs: how a class that we do not know travels, and where they are found.

A codec turns instances of one class into a small plain value and back. It is found by the class
when a value is written, and by its name when one is read: the name is in the log.
"""

import importlib
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import msgspec

from millstream._values_sink import Sink, Work

#: Entry points of packages that bring codecs: each names a codec, or a function to call.
ENTRY_POINT_GROUP: Final = "millstream.codecs"

#: Codecs of ours, by the package that defines the classes: looked at once it is imported.
_LAZY: Final[dict[str, str]] = {
    "millstream.io": "millstream.io",
    "numpy": "millstream._types_numpy",
    "pandas": "millstream._io_frames_pandas",
    "polars": "millstream._io_frames_polars",
    "pyarrow": "millstream._io_frames_arrow",
    "py": "millstream._types_collections",
    "builtins": "millstream._types_collections",
}


class Site(msgspec.Struct, kw_only=True, eq=False):
    """Where a value stands: what its annotation says, and what to do before it leaves."""

    #: The annotated class; the value's own where the annotation is `Any`.
    cls: type
    #: What stands in brackets: `(int,)` of `File[int]`.
    args: tuple[Any, ...] = ()
    #: What `Annotated` adds: `("csv",)` of `Annotated[DataFrame, "csv"]`.
    metadata: tuple[Any, ...] = ()
    sink: Sink = msgspec.field(default_factory=Sink)

    def later(self, work: Work) -> None:
        """Have `await work(storage)` done before the value leaves; its error is the caller's."""
        self.sink.works.append(work)

    def aside(self, size_bytes: int) -> None:
        """Say that so many bytes of the value are bulk, which `max_inline_io_bytes` lets pass."""
        self.sink.aside_bytes += size_bytes


class Coded(msgspec.Struct, frozen=True):
    """What `Codec.encode` may return instead of a plain value."""

    #: Of plain types, or of types that have codecs themselves.
    record: Any
    #: Stands for the record in cache keys and ids; empty: the record itself does.
    digest: bytes = b""


class Codec(Protocol):
    """How instances of `cls` become plain values and back.

    Optional attributes: `subclasses = True` takes instances of subclasses too, and
    `keeps_class = True` says that they come back as what they were; `accepts`, a tuple of
    classes, names what may be passed where `cls` is annotated, and `encode` gets it.
    Optional methods: `gives(cls)` says whether an instance may be passed where another class is
    annotated, and `convert(value, cls)` makes one of that class of it, where it is read.
    Also optional: `reads`, a tuple of names, says of which other codecs `decode` takes the
    records; `of_text(text)` returns what a command line means by `text`, or raises ValueError.
    """

    @property
    def name(self) -> str:
        """In the log: never change it."""
        ...

    @property
    def cls(self) -> type:
        """The class whose instances this codec takes."""
        ...

    def encode(self, value: Any, site: Site) -> Any:
        """Return a plain value that stands for `value`, or `Coded` with a digest.

        `NotImplemented` has it pickled.

        Raises:
            TypeError, ValueError: `value` does not fit.
        """
        ...

    def decode(self, record: Any, site: Site) -> Any:
        """Return the instance that `encode` was given. Does no I/O."""
        ...


_by_name: Final[dict[str, Codec]] = {}
_by_class: Final[dict[type, Codec]] = {}
#: What `find` answered before.
_found: Final[dict[type, Codec | None]] = {}
#: Called when a codec was added, since shapes of classes may look different now.
_listeners: Final[list[Callable[[], None]]] = []
_asked: Final[set[str]] = set()


def register(codec: Codec) -> None:
    """Have `codec` encode and decode the instances of its class from now on.

    A second codec for the same class takes its place for writing; both names can be read.

    Raises:
        ValueError: Another class has a codec of this name.
    """
    known = _by_name.get(codec.name)
    # A cell of a notebook that runs again defines its classes again.
    if known is not None and _full_name(known.cls) != _full_name(codec.cls):
        raise ValueError(f"the codec name {codec.name!r} belongs to {known.cls.__qualname__}")
    _by_name[codec.name] = codec
    _by_class[codec.cls] = codec
    _found.clear()
    for listener in _listeners:
        listener()


def _full_name(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def listen(listener: Callable[[], None]) -> None:
    """Have `listener` called whenever a codec was added."""
    _listeners.append(listener)


def find(cls: type) -> Codec | None:
    """Return the codec for instances of exactly this class, or None."""
    try:
        return _found[cls]
    except KeyError:
        pass
    for base in cls.__mro__:
        _wake(base.__module__)
    codec = _look(cls)
    if codec is None and _wake_plugins():
        codec = _look(cls)
    _found[cls] = codec
    return codec


def named(name: str) -> Codec | None:
    """Return the codec of that name, or None."""
    if name not in _by_name:
        _wake(name)
    if name not in _by_name:
        _wake_plugins()
    return _by_name.get(name)


def codec_in(metadata: object) -> Codec | None:
    """Return the codec that a part of `Annotated` is, or says that it has (`as_codec`)."""
    as_codec = getattr(metadata, "as_codec", None)
    if as_codec is not None and not isinstance(metadata, type):
        return cast("Codec", as_codec())
    has_parts = all(hasattr(metadata, name) for name in ("name", "cls", "encode", "decode"))
    return cast("Codec", metadata) if has_parts and not isinstance(metadata, type) else None


def accepted(codec: Codec) -> tuple[type, ...]:
    """Return what may be passed where the class of `codec` is annotated."""
    return (codec.cls, *cast("tuple[type, ...]", getattr(codec, "accepts", ())))


def _look(cls: type) -> Codec | None:
    codec = _by_class.get(cls)
    if codec is not None:
        return codec
    for base in cls.__mro__[1:]:
        codec = _by_class.get(base)
        if codec is not None and getattr(codec, "subclasses", False):
            return codec
    return None


def _wake(name: str) -> None:
    """Import our codecs for the package that `name` lies in."""
    for package, module in _LAZY.items():
        if name == package or name.startswith(f"{package}."):
            if module not in _asked:
                _asked.add(module)
                importlib.import_module(module)
            return


def _wake_plugins() -> bool:
    """Load the codecs of other packages, once; say whether there was anything to load."""
    if ENTRY_POINT_GROUP in _asked:
        return False
    _asked.add(ENTRY_POINT_GROUP)
    # Loaded late: it is of no use to a worker of plain values, and takes much memory.
    from importlib import metadata

    points = metadata.entry_points(group=ENTRY_POINT_GROUP)
    for point in points:
        loaded: Any = point.load()
        if callable(loaded):
            loaded = loaded()
        if loaded is not None:
            register(loaded)
    return bool(points)
