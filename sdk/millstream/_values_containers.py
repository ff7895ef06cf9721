"""Shapes of list, tuple, set and dict, whose items have shapes of their own."""

from collections.abc import Iterable
from typing import cast

from millstream._values_shapes import Mismatch, Shape
from millstream._values_sink import Sink
from millstream._values_wire import Pairs, pack, pairs_of


def _items_to_plain(items: Iterable[object], shape: Shape, sink: Sink) -> list[object]:
    plain: list[object] = []
    try:
        for item in items:
            plain.append(shape.to_plain(item, sink))  # noqa: PERF401 - its length names the item
    except Mismatch as exc:
        raise exc.inside(f"[{len(plain)}]") from None
    return plain


def _items_from_plain(items: Iterable[object], shape: Shape) -> list[object]:
    values: list[object] = []
    try:
        for item in items:
            values.append(shape.from_plain(item))  # noqa: PERF401 - its length names the item
    except Mismatch as exc:
        raise exc.inside(f"[{len(values)}]") from None
    return values


def _all_native(items: Iterable[object], native: type | None) -> bool:
    return native is not None and set(map(type, items)) <= {native}


class ListShape:
    """`list[T]`."""

    native = None
    exact: tuple[type, ...] = (list,)
    kinds: frozenset[type] | None = frozenset({list})

    def __init__(self, item: Shape) -> None:
        self.expected = f"list[{item.expected}]"
        self._item = item

    def to_plain(self, value: object, sink: Sink) -> object:
        """Return a list; a tuple is not one."""
        if not isinstance(value, list):
            raise Mismatch(self.expected, value)
        items = cast("list[object]", value)
        if type(items) is list and _all_native(items, self._item.native):
            return items
        return _items_to_plain(items, self._item, sink)

    def from_plain(self, plain: object) -> object:
        """Return a list."""
        if type(plain) is not list:
            raise Mismatch(self.expected, plain)
        items = cast("list[object]", plain)
        if _all_native(items, self._item.native):
            return items
        return _items_from_plain(items, self._item)


class TupleShape:
    """`tuple[T, ...]`."""

    native = None
    exact: tuple[type, ...] = (tuple,)
    kinds: frozenset[type] | None = frozenset({list})

    def __init__(self, item: Shape) -> None:
        self.expected = f"tuple[{item.expected}, ...]"
        self._item = item

    def to_plain(self, value: object, sink: Sink) -> object:
        """Return a list; a list stands for a tuple, since JSON has no other."""
        if not isinstance(value, tuple | list):
            raise Mismatch(self.expected, value)
        return _items_to_plain(cast("Iterable[object]", value), self._item, sink)

    def from_plain(self, plain: object) -> object:
        """Return a tuple."""
        if type(plain) is not list:
            raise Mismatch(self.expected, plain)
        return tuple(_items_from_plain(cast("list[object]", plain), self._item))


class FixedTupleShape:
    """`tuple[A, B]`."""

    native = None
    exact: tuple[type, ...] = (tuple,)
    kinds: frozenset[type] | None = frozenset({list})

    def __init__(self, items: tuple[Shape, ...]) -> None:
        self.expected = f"tuple[{', '.join(item.expected for item in items) or '()'}]"
        self._items = items

    def to_plain(self, value: object, sink: Sink) -> object:
        """Return a list of as many items."""
        if not isinstance(value, tuple | list):
            raise Mismatch(self.expected, value)
        items = cast("tuple[object, ...]", value)
        if len(items) != len(self._items):
            raise Mismatch(self.expected, items)
        plain: list[object] = []
        try:
            for item, shape in zip(items, self._items, strict=True):
                plain.append(shape.to_plain(item, sink))
        except Mismatch as exc:
            raise exc.inside(f"[{len(plain)}]") from None
        return plain

    def from_plain(self, plain: object) -> object:
        """Return a tuple."""
        items = cast("list[object]", plain)
        if type(plain) is not list or len(items) != len(self._items):
            raise Mismatch(self.expected, items)
        values: list[object] = []
        try:
            for item, shape in zip(items, self._items, strict=True):
                values.append(shape.from_plain(item))
        except Mismatch as exc:
            raise exc.inside(f"[{len(values)}]") from None
        return tuple(values)


class SetShape:
    """`set[T]` and `frozenset[T]`; the items travel in the order of their bytes."""

    native = None
    kinds: frozenset[type] | None = frozenset({list})

    def __init__(self, cls: type[set[object]] | type[frozenset[object]], item: Shape) -> None:
        self.expected = f"{cls.__name__}[{item.expected}]"
        self.exact: tuple[type, ...] = (cls,)
        self._cls = cls
        self._item = item

    def to_plain(self, value: object, sink: Sink) -> object:
        """Return a sorted list."""
        if not isinstance(value, self._cls):
            raise Mismatch(self.expected, value)
        members = cast("Iterable[object]", value)
        return sorted(_items_to_plain(members, self._item, sink), key=pack)

    def from_plain(self, plain: object) -> object:
        """Return a set."""
        if type(plain) is not list:
            raise Mismatch(self.expected, plain)
        items = cast("list[object]", plain)
        try:
            return self._cls(_items_from_plain(items, self._item))
        except TypeError as exc:  # an unhashable member
            raise Mismatch(self.expected, items) from exc


class DictShape:
    """`dict[K, V]`, in its order."""

    native = None
    exact: tuple[type, ...] = (dict,)
    kinds: frozenset[type] | None = frozenset({dict, Pairs})

    def __init__(self, key: Shape, item: Shape) -> None:
        self.expected = f"dict[{key.expected}, {item.expected}]"
        self._key = key
        self._item = item

    def to_plain(self, value: object, sink: Sink) -> object:
        """Return a dict where MessagePack has such keys, else pairs."""
        if not isinstance(value, dict):
            raise Mismatch(self.expected, value)
        mapping = cast("dict[object, object]", value)
        pairs: list[tuple[object, object]] = []
        for key, item in mapping.items():
            try:
                pairs.append((self._key.to_plain(key, sink), self._item.to_plain(item, sink)))
            except Mismatch as exc:
                raise exc.inside(f"[{key!r}]") from None
        if all(type(key) is str or type(key) is int for key, _ in pairs):
            return dict(pairs)
        return pairs_of(pairs)

    def from_plain(self, plain: object) -> object:
        """Return a dict."""
        if type(plain) is dict:
            pairs = list(cast("dict[object, object]", plain).items())
        elif type(plain) is Pairs:
            pairs = cast("list[tuple[object, object]]", plain)
        else:
            raise Mismatch(self.expected, plain)
        value: dict[object, object] = {}
        for key, item in pairs:
            try:
                value[self._key.from_plain(key)] = self._item.from_plain(item)
            except TypeError as exc:  # an unhashable key
                raise Mismatch(self.expected, key) from exc
            except Mismatch as exc:
                raise exc.inside(f"[{key!r}]") from None
        return value
