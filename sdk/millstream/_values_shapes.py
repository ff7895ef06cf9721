"""Shapes: one object for each annotation, which turns values into plain trees and back.

`to_plain` takes what a caller passed and is lenient where Flyte is (an int for a float, a dict
for a model); `from_plain` takes what a message holds and is exact. Both raise `Mismatch`.
"""

import datetime as dt
import enum
import logging
import numbers
import operator
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Final, Protocol, cast

from msgspec.msgpack import Ext

from millstream import _pickling
from millstream._values_sink import Sink
from millstream._values_wire import (
    LEAF_PACKERS,
    Code,
    CodedPlain,
    Packed,
    Pairs,
    Pickled,
    pack,
)
from millstream.errors import LargePickleWarning, RestrictedTypeError

_ADDRESS: Final = re.compile(" at 0x[0-9a-f]+")
_log: Final = logging.getLogger("millstream")
#: Classes of which a pickle was made in this process.
_pickled_classes: Final[set[type]] = set()
PICKLE_WARN_BYTES: Final = 1_000_000
_SHOWN_CHARS_MAX: Final = 80
#: Pickles up to this size carry the repr of their value, larger ones the name of its class.
_PREVIEWED_BYTES_MAX: Final = 4096

NoneType: Final = type(None)


class Mismatch(Exception):
    """A value that does not fit. `path` grows outwards as it passes the containers."""

    def __init__(self, expected: str, value: object) -> None:
        super().__init__(expected)
        self.expected = expected
        self.got = show(value)
        self.path: list[str] = []

    def inside(self, step: str) -> "Mismatch":
        """Return self, one step further out."""
        self.path.insert(0, step)
        return self


def show(value: object) -> str:
    """Return the type of `value`, and the value itself where it is short."""
    if value is None:
        return "None"
    if isinstance(value, CodedPlain):
        return f"an encoded {value.name}"
    if isinstance(value, Pickled | Packed | Pairs):
        return f"an encoded {type(value).__name__.lower()}"
    try:
        text = repr(value)
    # The repr of a user's class may do anything.
    except Exception:  # noqa: BLE001
        text = "..."
    if len(text) > _SHOWN_CHARS_MAX:
        text = text[: _SHOWN_CHARS_MAX - 3] + "..."
    return f"{type(value).__name__} {text}"


class Shape(Protocol):
    """How one annotation's values travel."""

    @property
    def expected(self) -> str:
        """What the annotation asks for, as text."""
        ...

    @property
    def native(self) -> type | None:
        """A value of exactly this class passes both ways unchanged; None: no class does."""
        ...

    @property
    def exact(self) -> tuple[type, ...]:
        """Classes whose instances belong here before they belong to another arm of a union."""
        ...

    @property
    def kinds(self) -> frozenset[type] | None:
        """Classes that the plain form has after `unpack`; None: it may have any."""
        ...

    def to_plain(self, value: object, sink: Sink) -> object:
        """Return the plain tree of `value`, or raise `Mismatch`."""
        ...

    def from_plain(self, plain: object) -> object:
        """Return the value of a plain tree, or raise `Mismatch`."""
        ...


# ------------------------------------------------------------------ pickle


def to_pickle(value: object, sink: Sink) -> Ext:
    """Return `value` pickled, as an extension.

    Raises:
        RestrictedTypeError: It cannot be pickled.
    """
    try:
        digest, content = _pickling.dump(value)
    # Pickling runs the value's own code, and has no error class of its own.
    except Exception as exc:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise RestrictedTypeError(f"a {kind} cannot be pickled: {exc}") from exc
    sink.pickles.append(len(content))
    _warn_of_pickle(type(value))
    if len(content) > PICKLE_WARN_BYTES:
        warnings.warn(
            f"a {type(value).__qualname__} travels as a pickle of {len(content):,} bytes",
            LargePickleWarning,
            stacklevel=2,
        )
    return Ext(Code.PICKLE, pack([digest, content, _preview(value, len(content))]))


def _preview(value: object, size_bytes: int) -> str:
    """Return what to show of a pickled value: the same text in every process."""
    # The repr of a large value may take long, and is cut anyway.
    if size_bytes > _PREVIEWED_BYTES_MAX or type(value).__repr__ is object.__repr__:
        return type(value).__qualname__
    return _ADDRESS.sub("", show(value)).encode("utf-8", "replace").decode()


def _warn_of_pickle(cls: type) -> None:
    """Say, once for each class, that only Python processes with the same code can read it.

    Nothing is said of what has no other form (functions, classes, tasks) and of classes that
    Python or an installed package brings: their owners cannot be told to change them.
    """
    if cls in _pickled_classes:
        return
    _pickled_classes.add(cls)
    if not hasattr(cls, "__dict__") or is_installed(cls.__module__):
        return
    # Logged, as Flyte does, not warned of: where warnings are errors, it is no error still.
    _log.warning(
        "values of the class %s travel as pickles: make it a dataclass or a pydantic model, "
        "name it in the annotation, or register a codec with millstream.types (MS2030)",
        cls.__qualname__,
    )


def is_installed(module: str) -> bool:
    """Say whether a module is of Python or of an installed package, rather than the user's."""
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names:
        return root != "__main__"
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return root == "millstream" or "site-packages" in file


def from_pickle(pickled: Pickled, expected: str) -> object:
    """Return the pickled value; it may be of any class."""
    try:
        return _pickling.load(pickled.content)
    # Unpickling imports and runs what the value names.
    except Exception as exc:
        problem = Mismatch(expected, None)
        problem.got = f"a pickle that cannot be read: {type(exc).__name__}: {exc}"
        raise problem from exc


class PickleShape:
    """Any class that has no better shape; `cls` is None where nothing can be checked."""

    native = None
    kinds: frozenset[type] | None = frozenset({Pickled})

    def __init__(self, expected: str, cls: type | None) -> None:
        self.expected = expected
        self.exact: tuple[type, ...] = (cls,) if cls is not None else ()
        self._cls = cls

    def to_plain(self, value: object, sink: Sink) -> object:
        if self._cls is not None and not isinstance(value, self._cls):
            raise Mismatch(self.expected, value)
        return to_pickle(value, sink)

    def from_plain(self, plain: object) -> object:
        if type(plain) is not Pickled:
            raise Mismatch(self.expected, plain)
        value = from_pickle(plain, self.expected)
        if self._cls is not None and not isinstance(value, self._cls):
            raise Mismatch(self.expected, value)
        return value


# ------------------------------------------------------------------ scalars


class NativeShape:
    """None, bool, bytes: exactly what MessagePack has."""

    def __init__(self, cls: type) -> None:
        self.expected = "None" if cls is NoneType else cls.__name__
        self.native: type | None = cls
        self.exact: tuple[type, ...] = (cls,)
        self.kinds: frozenset[type] | None = frozenset({cls})

    def to_plain(self, value: object, sink: Sink) -> object:
        if type(value) is not self.native:
            raise Mismatch(self.expected, value)
        return value

    def from_plain(self, plain: object) -> object:
        if type(plain) is not self.native:
            raise Mismatch(self.expected, plain)
        return plain


class IntShape(NativeShape):
    """Integers of any size; what has `__index__` (numpy's) becomes an int, a bool stays one."""

    def __init__(self) -> None:
        super().__init__(int)

    def to_plain(self, value: object, sink: Sink) -> object:
        if type(value) is bool:
            return value
        try:
            # An int again, since `int.__index__` of a subclass may answer with itself.
            return int(operator.index(cast("int", value)))
        except TypeError as exc:
            raise Mismatch(self.expected, value) from exc

    def from_plain(self, plain: object) -> object:
        if type(plain) is not int and type(plain) is not bool:
            raise Mismatch(self.expected, plain)
        return plain


def is_numpy_real(value: object) -> bool:
    """Say whether `value` is a number of numpy's: all but its float64 are no float of Python."""
    return type(value).__module__ == "numpy" and isinstance(value, numbers.Real)


class BoolShape(NativeShape):
    """True or False; numpy's own become those."""

    def __init__(self) -> None:
        super().__init__(bool)

    def to_plain(self, value: object, sink: Sink) -> object:
        if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
            return bool(value)
        return super().to_plain(value, sink)


class FloatShape(NativeShape):
    """Floats, NaN and infinities too; an int is taken for a float, a bool is not."""

    def __init__(self) -> None:
        super().__init__(float)

    def to_plain(self, value: object, sink: Sink) -> object:
        if type(value) is not bool and (isinstance(value, int | float) or is_numpy_real(value)):
            try:
                return float(cast("float", value))
            except OverflowError as exc:
                raise Mismatch(self.expected, value) from exc
        raise Mismatch(self.expected, value)


class StrShape(NativeShape):
    """Text; a subclass becomes plain text."""

    def __init__(self) -> None:
        super().__init__(str)

    def to_plain(self, value: object, sink: Sink) -> object:
        if not isinstance(value, str):
            raise Mismatch(self.expected, value)
        # Not `str(value)`, which an enum with text values overrides.
        return str.__str__(value)


class LeafShape:
    """A class with an extension of its own: datetime, Decimal, UUID, Path, ..."""

    native = None

    def __init__(self, cls: type, *, classes: tuple[type, ...] = ()) -> None:
        self.expected = cls.__name__
        self.exact: tuple[type, ...] = classes or (cls,)
        self.kinds: frozenset[type] | None = frozenset({*self.exact, Pickled})

    def to_plain(self, value: object, sink: Sink) -> object:
        if not isinstance(value, self.exact):
            raise Mismatch(self.expected, value)
        packer = LEAF_PACKERS.get(type(value))
        packed = packer(value) if packer is not None else None
        return to_pickle(value, sink) if packed is None else packed

    def from_plain(self, plain: object) -> object:
        if type(plain) is Pickled:
            plain = from_pickle(plain, self.expected)
        if not isinstance(plain, self.exact):
            raise Mismatch(self.expected, plain)
        return plain


class TimestampShape(LeafShape):
    """A datetime; without a time zone it is taken for UTC."""

    def __init__(self) -> None:
        super().__init__(dt.datetime)

    def to_plain(self, value: object, sink: Sink) -> object:
        if isinstance(value, dt.datetime) and value.tzinfo is None:
            value = value.replace(tzinfo=dt.UTC)
        return super().to_plain(value, sink)


class DateShape(LeafShape):
    """A date; a datetime gives its date."""

    def __init__(self) -> None:
        super().__init__(dt.date)

    def to_plain(self, value: object, sink: Sink) -> object:
        return super().to_plain(value.date() if isinstance(value, dt.datetime) else value, sink)


class EnumShape:
    """Enums travel by name, flags by value; name and value are accepted for a member."""

    native = None

    def __init__(self, cls: type[enum.Enum]) -> None:
        self.expected = cls.__qualname__
        self.exact: tuple[type, ...] = (cls,)
        self._cls = cls
        self._is_flag = issubclass(cls, enum.Flag)
        self.kinds: frozenset[type] | None = frozenset({int if self._is_flag else str})

    def to_plain(self, value: object, sink: Sink) -> object:
        member = value if isinstance(value, self._cls) else self._member(value)
        return member.value if self._is_flag else member.name

    def _member(self, value: object) -> enum.Enum:
        if isinstance(value, str) and value in self._cls.__members__:
            return self._cls.__members__[value]
        try:
            return self._cls(value)
        except (ValueError, TypeError) as exc:
            raise Mismatch(f"{self.expected} {list(self._cls.__members__)}", value) from exc

    def from_plain(self, plain: object) -> object:
        if self._is_flag and type(plain) is int:
            return self._member(plain)
        if self._is_flag or type(plain) is not str or plain not in self._cls.__members__:
            raise Mismatch(self.expected, plain)
        return self._cls.__members__[plain]


class LiteralShape:
    """One of a few values, each as itself."""

    native = None
    exact: tuple[type, ...] = ()

    def __init__(self, values: tuple[object, ...]) -> None:
        self.expected = f"one of {list(values)}"
        self.kinds: frozenset[type] | None = frozenset(
            str if isinstance(value, enum.Enum) else type(value) for value in values
        )
        self._values = values

    def to_plain(self, value: object, sink: Sink) -> object:
        for member in self._values:
            if type(member) is type(value) and member == value:
                return member.name if isinstance(member, enum.Enum) else member
        raise Mismatch(self.expected, value)

    def from_plain(self, plain: object) -> object:
        for member in self._values:
            shown = member.name if isinstance(member, enum.Enum) else member
            if type(shown) is type(plain) and shown == plain:
                return member
        raise Mismatch(self.expected, plain)


# ------------------------------------------------------------------ unions


class UnionShape:
    """One of several arms: untagged where the plain forms tell them apart, else tagged."""

    native = None

    def __init__(self, arms: Sequence[Shape]) -> None:
        self._arms = tuple(arms)
        self.expected = " | ".join(arm.expected for arm in arms)
        self.exact = tuple(cls for arm in arms for cls in arm.exact)
        kinds = [kind for arm in arms for kind in arm.kinds or ()]
        self._tagged = any(arm.kinds is None for arm in arms) or len(kinds) != len(set(kinds))
        self.kinds: frozenset[type] | None = frozenset({list} if self._tagged else kinds)
        self._by_kind = {kind: arm for arm in arms for kind in arm.kinds or ()}
        names = [arm.expected for arm in arms]
        # Two classes of one name, from two modules, are told apart by their place.
        self._tags = [
            name if names.count(name) == 1 else f"{name}#{index}"
            for index, name in enumerate(names)
        ]
        self._by_tag = dict(zip(self._tags, self._arms, strict=True))

    @property
    def tagged(self) -> bool:
        """Whether the plain form names the arm."""
        return self._tagged

    def to_plain(self, value: object, sink: Sink) -> object:
        cls = type(value)
        arms = list(zip(self._arms, self._tags, strict=True))
        first = [pair for pair in arms if cls in pair[0].exact]
        deepest: Mismatch | None = None
        for arm, tag in (*first, *arms):
            mark = sink.mark()
            try:
                plain = arm.to_plain(value, sink)
            except Mismatch as problem:
                sink.undo(mark)
                if deepest is None or len(problem.path) > len(deepest.path):
                    deepest = problem
                continue
            if not self._tagged:
                return plain
            return None if plain is None else [tag, plain]
        if deepest is not None and deepest.path:
            # The arm that came furthest is the one that was meant.
            raise deepest
        raise Mismatch(self.expected, value)

    def from_plain(self, plain: object) -> object:
        if self._tagged and plain is not None:
            return self._from_tagged(plain)
        arm = self._by_kind.get(type(plain))
        if arm is not None:
            return arm.from_plain(plain)
        for arm in self._arms:
            try:
                return arm.from_plain(plain)
            except Mismatch:
                continue
        raise Mismatch(self.expected, plain)

    def _from_tagged(self, tagged: object) -> object:
        pair = cast("list[object]", tagged)
        if type(tagged) is not list or len(pair) != 2:
            raise Mismatch(self.expected, pair)
        tag, inner = pair
        arm = self._by_tag.get(tag) if isinstance(tag, str) else None
        if arm is None:
            raise Mismatch(self.expected, pair)
        return arm.from_plain(inner)


#: Shapes that need nothing else.
SCALARS: Final[dict[object, Shape]] = {
    NoneType: NativeShape(NoneType),
    None: NativeShape(NoneType),
    bool: BoolShape(),
    bytes: NativeShape(bytes),
    int: IntShape(),
    float: FloatShape(),
    str: StrShape(),
}
