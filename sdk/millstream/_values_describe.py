"""Annotations as text that is the same in every process, for digests of interfaces."""

import dataclasses
import enum
import typing
from typing import Any, cast

import msgspec

from millstream._pickling import MAIN_MODULES


def describe(annotation: object) -> str:
    """Return a text that changes when the values of `annotation` would look different.

    Fields of the classes that it names are part of it, at any depth.
    """
    return _describe(annotation, frozenset())


def _describe(annotation: object, seen: frozenset[object]) -> str:
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, str):
        return repr(annotation)
    origin = typing.get_origin(annotation)
    args = typing.get_args(annotation)
    if origin is typing.Annotated:
        return _describe(args[0], seen)
    if origin is typing.Literal:
        return f"Literal{[repr(arg) for arg in args]}"
    if origin is not None:
        inner = ", ".join(_describe(arg, seen) for arg in args)
        return f"{_describe(origin, seen)}[{inner}]"
    if isinstance(annotation, list):  # the parameters inside `Callable[[int], str]`
        return f"[{', '.join(_describe(arg, seen) for arg in cast('list[object]', annotation))}]"
    if isinstance(annotation, type):
        return _class(cast("type[object]", annotation), seen)
    return str(annotation)


def _class(cls: type[object], seen: frozenset[object]) -> str:
    # The file of a script has one name at its start and another in a worker.
    module = "__main__" if cls.__module__ in MAIN_MODULES else cls.__module__
    name = f"{module}.{cls.__qualname__}"
    if cls in seen:
        return name
    if issubclass(cls, enum.Enum):
        return f"{name}{sorted(cls.__members__)}"
    if not _has_fields(cls):
        return name
    try:
        hints: dict[str, Any] = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, SyntaxError):
        # Its text will do: whether it can be resolved is for the first value to find out.
        hints = dict(getattr(cls, "__annotations__", {}))
    inner = seen | {cls}
    fields = [f"{field}: {_describe(hint, inner)}" for field, hint in hints.items()]
    return f"{name}({', '.join(fields)})"


def is_typed_dict(cls: object) -> bool:
    """Say whether `cls` is a TypedDict, also one of `typing_extensions`, which has its own."""
    return dict in getattr(cls, "__mro__", ()) and hasattr(cls, "__required_keys__")


def is_named_tuple(cls: object) -> bool:
    """Say whether `cls` was made by `NamedTuple` or `namedtuple`."""
    return isinstance(cls, type) and tuple in cls.__mro__ and hasattr(cls, "_fields")


def _has_fields(cls: type[object]) -> bool:
    return (
        dataclasses.is_dataclass(cls)
        or is_typed_dict(cls)
        or hasattr(cls, "__pydantic_fields__")
        or is_named_tuple(cls)
        or issubclass(cls, msgspec.Struct)
    )
