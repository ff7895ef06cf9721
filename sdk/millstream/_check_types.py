"""Which annotations name values that can travel between processes, before any value is there."""

import collections.abc
import dataclasses
import threading
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, cast

from millstream._values import encode, shape_of
from millstream._values_dynamic import CodedShape
from millstream._values_records import record_shape
from millstream._values_shapes import PickleShape, Shape, is_installed
from millstream.errors import BaseRuntimeError

Way = Literal["msgpack", "pickle", "no"]

#: Classes whose instances belong to the process that has them, and why.
_BOUND: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "_thread.lock", "_thread.RLock", "threading.Condition", "threading.Event",
            "threading.Semaphore", "threading.Barrier", "threading.Thread", "asyncio.locks.Lock",
            "asyncio.locks.Event", "asyncio.locks.Semaphore", "queue.Queue", "_queue.SimpleQueue",
        ),
        "threads and what they wait for stay in their process",
    ),
    **dict.fromkeys(
        ("_asyncio.Future", "_asyncio.Task", "concurrent.futures._base.Future"),
        "an awaitable stays in its process: await it, and pass what it gives",
    ),
    **dict.fromkeys(
        (
            "builtins.generator", "builtins.async_generator", "builtins.coroutine",
            "builtins.frame", "builtins.traceback",
        ),
        "code that is under way stays in its process: pass a list of what it gives",
    ),
    **dict.fromkeys(
        ("_socket.socket", "_ssl._SSLSocket", "sqlite3.Connection", "sqlite3.Cursor"),
        "a connection stays in its process: pass its address, and open it in the task",
    ),
    **dict.fromkeys(
        ("concurrent.futures._base.Executor", "subprocess.Popen", "multiprocessing.pool.Pool"),
        "processes and pools of them belong to the process that started them",
    ),
    **dict.fromkeys(
        ("_io.BufferedReader", "_io.BufferedWriter", "_io.FileIO", "mmap.mmap"),
        "an open file stays in its process: pass a millstream.io.File",
    ),
    "_weakref.ReferenceType": "a weak reference means nothing in another process",
    "builtins.memoryview": "a view of memory stays in its process: pass bytes",
}  # fmt: skip
_STREAMS: Final[tuple[object, ...]] = (
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
    collections.abc.Awaitable,
    collections.abc.Coroutine,
)
#: What stands in their brackets is no part of the value.
_OPAQUE: Final = (typing.get_origin(Callable[..., object]), type)
_OF_STREAMS: Final = "what can be read once stays in its process: pass a list"
_OF_PICKLES: Final = (
    "only Python with the same code can read it: make it a dataclass or a pydantic model, or "
    "register a codec (MS2030)"
)


class Flaw(NamedTuple):
    """A part of an annotation whose values do not travel in the common format."""

    way: Way
    #: Where in the annotation: `.field`, `[0]`; empty: all of it.
    place: str
    cls: str
    why: str


def flaws_of(annotation: object) -> list[Flaw]:
    """Return the parts of an annotation that need a pickle, or cannot be carried at all."""
    return list(_walk(annotation, "", frozenset()))


def way_of(flaws: list[Flaw]) -> Way:
    """Return how a value with these flaws travels: in the worst of their ways."""
    ways = {flaw.way for flaw in flaws}
    return "no" if "no" in ways else "pickle" if "pickle" in ways else "msgpack"


def default_flaw(value: object, annotation: object) -> str:
    """Return why a default is no value of its annotation; empty: it is one."""
    try:
        encode(value, annotation, where="default")
    except BaseRuntimeError as exc:
        return str(exc)
    return ""


def _walk(annotation: object, place: str, seen: frozenset[int]) -> Iterator[Flaw]:
    if annotation is Any or annotation is None or id(annotation) in seen:
        return
    seen |= {id(annotation)}
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Literal, typing.ClassVar):
        return
    if origin is typing.Annotated:
        yield from _annotated(annotation, args, place, seen)
        return
    cls = cast("object", origin or annotation)
    if cls is threading.Lock or cls is threading.RLock:  # functions, before Python 3.13
        yield Flaw("no", place, "threading.Lock", _BOUND["_thread.lock"])
        return
    if any(cls is stream for stream in _STREAMS):
        yield Flaw("no", place, _name(cls), _OF_STREAMS)
        return
    if isinstance(cls, type):
        flaw = _own(cls, annotation, place)
        if flaw is not None:
            yield flaw
        if flaw is not None or isinstance(shape_of(annotation), CodedShape):
            return
        for name, hint in _fields(cls).items():
            yield from _walk(hint, f"{place}.{name}", seen)
    if cls not in _OPAQUE:
        for index, inner in enumerate(args):
            yield from _walk(inner, f"{place}[{index}]", seen)


def _annotated(
    annotation: object, args: tuple[Any, ...], place: str, seen: frozenset[int]
) -> Iterator[Flaw]:
    # A codec that is named in the annotation takes what it is named for.
    if isinstance(shape_of(annotation), PickleShape) or shape_of(annotation) is shape_of(args[0]):
        yield from _walk(args[0], place, seen)


def _own(cls: type[object], annotation: object, place: str) -> Flaw | None:
    """Return what is wrong with the class itself."""
    for base in cls.__mro__:
        why = _BOUND.get(f"{base.__module__}.{base.__qualname__}")
        if why is not None:
            return Flaw("no", place, _name(cls), why)
    if isinstance(shape_of(annotation), PickleShape) and not _has_no_other_form(cls):
        return Flaw("pickle", place, _name(cls), _OF_PICKLES)
    return None


def _has_no_other_form(cls: type[object]) -> bool:
    """Say whether nobody can be told to write it otherwise: errors, or the class is another's."""
    return issubclass(cls, type | BaseException) or is_installed(cls.__module__)


def _fields(cls: type[object]) -> dict[str, object]:
    """Return the annotations of a record's fields; nothing for other classes."""

    def none(_: object) -> Shape:
        return shape_of(None)

    if not dataclasses.is_dataclass(cls) and record_shape(cls, (), none) is None:
        return {}
    try:
        return typing.get_type_hints(cls, include_extras=True)
    # A field's annotation may name anything; the shape of the record has told already.
    except Exception:  # noqa: BLE001
        return {}


def _name(cls: object) -> str:
    name = getattr(cls, "__qualname__", str(cls))
    module = getattr(cls, "__module__", "builtins")
    return str(name) if module in ("builtins", "__main__") else f"{module}.{name}"


def show_type(annotation: object) -> str:
    """Return an annotation as it is written, without the modules of its classes."""
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, list):  # the parameters inside `Callable[[int], str]`
        return f"[{_several(cast('list[object]', annotation), ', ')}]"
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _several(args, " | ")
    if isinstance(origin, type):
        return f"{origin.__qualname__}[{_several(args, ', ')}]"
    if origin is None and (isinstance(annotation, type) or callable(annotation)):
        return str(getattr(annotation, "__qualname__", annotation)).removeprefix("typing.")
    return str(annotation).replace("typing.", "")


def _several(annotations: Iterable[object], between: str) -> str:
    return between.join(show_type(each) for each in annotations)
