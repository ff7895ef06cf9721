"""The parameters of a task as a JSON schema, for forms and for tools of language models."""

import collections.abc
import datetime as dt
import enum
import importlib
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Union, cast

from millstream._values_describe import is_named_tuple, is_typed_dict

Schema = dict[str, Any]

_SCALARS: Final[Mapping[object, Schema]] = {
    int: {"type": "integer"},
    float: {"type": "number", "format": "float"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    dt.datetime: {"type": "string", "format": "datetime"},
    dt.date: {"type": "string", "format": "datetime"},
    dt.timedelta: {"type": "string", "format": "duration"},
    bytes: {"type": "string", "format": "binary"},
    list: {"type": "array"},
    dict: {"type": "object"},
    Any: {},
    # What is not annotated.
    inspect.Parameter.empty: {"type": "string"},
}
_LISTS: Final = (list, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_MAPS: Final = (dict, collections.abc.Mapping)


def schema_of(inputs: Mapping[str, tuple[Any, Any]]) -> Schema:
    """Return the schema of these parameters: annotation and default by name."""
    return {
        "type": "object",
        "properties": {name: type_schema(hint) for name, (hint, _) in inputs.items()},
        "required": [
            name for name, (_, default) in inputs.items() if default is inspect.Parameter.empty
        ],
    }


def type_schema(hint: Any) -> Schema:
    """Return the schema of one annotation; what JSON has no form for is an opaque string."""
    try:
        return dict(_SCALARS[hint])
    except (KeyError, TypeError):  # TypeError: metadata that cannot be hashed
        pass
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin is Annotated:
        return type_schema(args[0])
    if origin is Literal:
        return _choice(args)
    if origin is Union or origin is types.UnionType:
        return _union(args)
    if origin in _LISTS or (origin is tuple and args[-1] is Ellipsis):
        return {"type": "array", "items": type_schema(args[0])}
    if origin is tuple:
        return {"type": "array", "prefixItems": [type_schema(arg) for arg in args]}
    if origin in _MAPS:
        return {"type": "object", "additionalProperties": type_schema(args[1])}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"type": "string", "enum": list(hint.__members__)}
    return _record(hint) or {"type": "string", "format": "binary", "title": _name(hint)}


def _name(hint: Any) -> str:
    return cast("str", getattr(hint, "__name__", str(hint)))


def _choice(values: tuple[Any, ...]) -> Schema:
    schema: Schema = {"enum": list(values)}
    return {"type": "string", **schema} if all(isinstance(v, str) for v in values) else schema


def _union(arms: tuple[Any, ...]) -> Schema:
    present = [arm for arm in arms if arm is not type(None)]
    if len(present) == 1:
        return type_schema(present[0])
    named = [(arm, "none" if arm is type(None) else _name(arm)) for arm in arms]
    shown = [{**type_schema(arm), "title": name, "structure": name} for arm, name in named]
    return {"oneOf": shown, "format": "union"}


def _record(hint: Any) -> Schema | None:
    """Return what pydantic says of a class with fields; None: it is no such class."""
    if is_typed_dict(hint) or is_named_tuple(hint):
        required: list[str] = sorted(
            getattr(hint, "__required_keys__", ()) or getattr(hint, "_fields", ())
        )
        hints = {name: type_schema(each) for name, each in typing.get_type_hints(hint).items()}
        return {
            "type": "object",
            "required": required,
            "properties": {
                name: {**each, "title": name.title().replace("_", " ")}
                for name, each in hints.items()
            },
            "dataclass": _name(hint),
        }
    if not hasattr(hint, "__dataclass_fields__") and not hasattr(hint, "__pydantic_fields__"):
        return None
    pydantic: Any = importlib.import_module("pydantic")
    try:
        schema: Schema = pydantic.TypeAdapter(hint).json_schema()
    # A field of a class that pydantic has no schema for.
    except pydantic.errors.PydanticUserError:
        return {"type": "object", "dataclass": _name(hint)}
    if "$ref" in schema:  # It refers to itself.
        return schema
    schema.pop("title", None)
    return {**schema, "dataclass": _name(hint)}
