"""Codecs of the standard library's containers, which keep their class, order and limits."""

import collections
import fractions
import ipaddress
import types
from collections.abc import Callable
from typing import Any, Final

from millstream._values_codecs import Site, register


class PartsCodec:
    """A class whose instances are taken apart and put together by two functions."""

    def __init__(
        self,
        cls: type,
        take: Callable[[Any], object],
        make: Callable[[Any], object],
        *,
        subclasses: bool = False,
    ) -> None:
        self.name = f"py.{cls.__module__}.{cls.__qualname__}"
        self.cls = cls
        self.subclasses = subclasses
        self._take = take
        self._make = make

    def encode(self, value: Any, site: Site) -> object:
        """Return the parts of `value`."""
        return self._take(value)

    def decode(self, record: Any, site: Site) -> object:
        """Return what has these parts."""
        return self._make(record)


_CODECS: Final = (
    PartsCodec(collections.OrderedDict, lambda value: list(value.items()), collections.OrderedDict),
    # A list of pairs: a Counter counts its items when it is made of anything but a mapping.
    PartsCodec(
        collections.Counter,
        lambda value: list(value.items()),
        lambda record: collections.Counter(dict(record)),
    ),
    PartsCodec(
        collections.deque,
        lambda value: (list(value), value.maxlen),
        lambda record: collections.deque[Any](*record),
    ),
    PartsCodec(
        collections.defaultdict,
        lambda value: (value.default_factory, list(value.items())),
        lambda record: collections.defaultdict[Any, Any](*record),
    ),
    PartsCodec(
        range,
        lambda value: (value.start, value.stop, value.step),
        lambda record: range(*record),
    ),
    PartsCodec(
        slice,
        lambda value: (value.start, value.stop, value.step),
        lambda record: slice(*record),
    ),
    PartsCodec(bytearray, bytes, bytearray),
    PartsCodec(
        fractions.Fraction,
        lambda value: (value.numerator, value.denominator),
        lambda record: fractions.Fraction(*record),
    ),
    PartsCodec(
        types.SimpleNamespace,
        vars,
        lambda record: types.SimpleNamespace(**record),
    ),
    *(
        PartsCodec(cls, str, cls)
        for cls in (
            ipaddress.IPv4Address,
            ipaddress.IPv6Address,
            ipaddress.IPv4Network,
            ipaddress.IPv6Network,
        )
    ),
)

for _codec in _CODECS:
    register(_codec)
