"""How values show themselves: what differs from the defaults, as they would be written."""

import inspect
from collections.abc import Iterator
from typing import Any, TypeVar, cast

T = TypeVar("T")

_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
_NAMED = inspect.Parameter.KEYWORD_ONLY


def shown(cls: type[T]) -> type[T]:
    """Give a class the repr that Flyte's have, which `rich` prints in colours.

    A parameter without a default is shown by its value, one that has another value than its
    default by name and value. Each parameter is an attribute of the same name.
    """

    def fields(self: Any) -> Iterator[Any]:
        for name, parameter in inspect.signature(cast("Any", type(self))).parameters.items():
            if parameter.kind not in (_POSITIONAL, _NAMED):
                continue
            value = getattr(self, name)
            if parameter.default is parameter.empty:
                yield value
            else:
                yield name, value, parameter.default

    def text(self: Any) -> str:
        parts: list[str] = []
        for field in fields(self):
            if not isinstance(field, tuple):
                parts.append(repr(field))
            elif field[1] != field[2]:  # pyright: ignore[reportUnknownMemberType]
                parts.append(f"{field[0]}={field[1]!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    made: Any = cls
    made.__repr__ = text
    made.__rich_repr__ = fields
    return cls
