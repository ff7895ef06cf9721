"""JSON schemas of annotations, in the words that Flyte's own schemas use."""

import dataclasses
import datetime as dt
import enum
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, Final, Union, cast

_SIMPLE: Final[dict[object, dict[str, Any]]] = {
    int: {"type": "integer"},
    float: {"type": "number", "format": "float"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "format": "binary"},
    dt.datetime: {"type": "string", "format": "datetime"},
    dt.date: {"type": "string", "format": "date"},
    dt.timedelta: {"type": "string", "format": "duration"},
    type(None): {"type": "null"},
    Any: {},
    inspect.Parameter.empty: {"type": "string"},
}


_SEQUENCES: Final[tuple[object, ...]] = (list, tuple, set, frozenset)


def schema_of_inputs(inputs: Mapping[str, tuple[object, object]]) -> dict[str, Any]:
    """Return the schema of the inputs of a task, each a pair of its type and its default."""
    empty = inspect.Parameter.empty
    return {
        "type": "object",
        "properties": {name: schema_of(hint) for name, (hint, _) in inputs.items()},
        "required": [name for name, (_, default) in inputs.items() if default is empty],
    }


def schema_of(annotation: object) -> dict[str, Any]:
    """Return the schema of one value; an empty one for what has no form in JSON."""
    simple = _SIMPLE.get(annotation) if _is_hashable(annotation) else None
    if simple is not None:
        return dict(simple)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return schema_of(args[0])
    if origin is typing.Literal:
        return {"type": "string", "enum": [str(value) for value in args]}
    if origin in (Union, types.UnionType):
        kept = [each for each in args if each is not type(None)]
        if len(kept) == 1:
            return schema_of(kept[0])
        return {"oneOf": [schema_of(each) for each in kept], "format": "union"}
    if (origin or annotation) in _SEQUENCES:
        items = schema_of(args[0]) if args else {}
        return {"type": "array", "items": items}
    if (origin or annotation) is dict:
        values = schema_of(args[1]) if len(args) > 1 else {}
        return {"type": "object", "additionalProperties": values}
    return _schema_of_class(annotation) if isinstance(annotation, type) else {}


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _schema_of_class(cls: type[object]) -> dict[str, Any]:
    if issubclass(cls, enum.Enum):
        return {"type": "string", "enum": [member.name for member in cls]}
    pydantic_schema = getattr(cls, "model_json_schema", None)
    if callable(pydantic_schema):
        return cast("dict[str, Any]", pydantic_schema())
    if not dataclasses.is_dataclass(cls):
        return {"type": "object", "title": cls.__name__}
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    missing = dataclasses.MISSING
    required = [
        each.name for each in fields if each.default is missing and each.default_factory is missing
    ]
    return {
        "type": "object",
        "title": cls.__name__,
        "properties": {each.name: schema_of(hints[each.name]) for each in fields},
        "required": required,
    }
