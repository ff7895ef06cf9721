"""A task's parameters as options of the command line. No I/O, no user code is run.

`--count 3`, `--count=3`, `--fast` and `--no-fast` for a bool; lists, dicts and models as JSON.
Everything behind FILE and TASK that names a parameter belongs to the task, also where an option
of the command has the same name: that one then goes in front of FILE.
"""

import enum
import inspect
import json
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Literal, NamedTuple, cast

from millstream._values_codecs import find
from millstream.cli.outcome import UsageError, nearest

_NONES: Final = ("none", "null")
_TRUE: Final = ("true", "yes", "on", "1")
_FALSE: Final = ("false", "no", "off", "0")


class TaskParameter(NamedTuple):
    """One parameter of a task."""

    name: str
    #: `object` when there is none.
    annotation: object
    required: bool

    @property
    def option(self) -> str:
        """How it is written, such as `--batch-size`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def is_flag(self) -> bool:
        """Whether it is written without a value."""
        return self.annotation is bool

    @property
    def type_name(self) -> str:
        """Its type, as people write it."""
        return show_type(self.annotation)


class Command(NamedTuple):
    """A command line taken apart."""

    #: Options of the command itself, FILE and TASK.
    own: tuple[str, ...]
    #: What belongs to the task.
    task: tuple[str, ...]


def parameters_of(
    function: Callable[..., object], annotations: Mapping[str, object]
) -> list[TaskParameter]:
    """Return the parameters that a caller may name."""
    return [
        TaskParameter(name, annotations.get(name, object), parameter.default is parameter.empty)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]


def find_target(tokens: Sequence[str], own: Mapping[str, bool]) -> tuple[int, int] | None:
    """Return the positions of FILE and TASK, or None when they are not both there.

    Args:
        tokens: The command line behind the command's name.
        own: The command's options; True: it takes a value.
    """
    found: list[int] = []
    index = 0
    while index < len(tokens) and len(found) < 2:
        token = tokens[index]
        if not token.startswith("-") or token == "-":  # noqa: S105
            found.append(index)
        elif own.get(token, False):
            index += 1
        index += 1
    return (found[0], found[1]) if len(found) == 2 else None


def split_tail(
    tail: Sequence[str], parameters: Collection[TaskParameter], own: Mapping[str, bool]
) -> Command:
    """Tell the task's tokens from the command's own among what follows TASK.

    Raises:
        UsageError: A token that belongs to neither.
    """
    options = _options(parameters)
    mine: list[str] = []
    task: list[str] = []
    index = 0
    while index < len(tail):
        token = tail[index]
        if token == "--":  # noqa: S105 - no secret
            task.extend(tail[index + 1 :])
            break
        name = _option_name(token)
        if name in options:
            taken, valued = task, not options[name].is_flag
        elif name in own:
            taken, valued = mine, own[name]
        elif token.startswith("-"):
            raise UsageError(f"no option {name}.{nearest(name, [*options, *own])}")
        else:
            raise UsageError(
                f"unexpected argument {token!r}", "parameters are written --name value"
            )
        width = 2 if valued and "=" not in token else 1
        taken.extend(tail[index : index + width])
        index += width
    return Command(tuple(mine), tuple(task))


def parse_inputs(
    tokens: Sequence[str], parameters: Collection[TaskParameter], *, partial: bool = False
) -> dict[str, object]:
    """Return the inputs that the task's tokens spell; defaults are left to the task.

    With `partial`, required ones may be missing.

    Raises:
        UsageError: An unknown option, a value of another type, or required ones that are not
            there; the missing ones are named together.
    """
    options = _options(parameters)
    inputs: dict[str, object] = {}
    index = 0
    while index < len(tokens):
        token = tokens[index]
        name, equals, text = token.partition("=")
        name = _option_name(name)
        index += 1
        parameter = options.get(name)
        if parameter is None:
            raise UsageError(f"the task has no parameter {name}.{nearest(name, options)}")
        if parameter.is_flag and not equals:
            inputs[parameter.name] = not _negated(name, parameter)
            continue
        if not equals:
            if index == len(tokens):
                raise UsageError(f"{name} needs a value of type {parameter.type_name}")
            text = tokens[index]
            index += 1
        try:
            inputs[parameter.name] = convert(text, parameter.annotation)
        except ValueError as exc:
            expected = f"{name} wants {parameter.type_name}, not {text!r}"
            raise UsageError(f"{expected}{_reason(exc)}") from exc
    missing = [one for one in parameters if one.required and one.name not in inputs]
    if missing and not partial:
        listed = ", ".join(f"{one.option} ({one.type_name})" for one in missing)
        raise UsageError(f"required: {listed}")
    return inputs


def convert(text: str, annotation: object) -> object:
    """Return the value of type `annotation` that `text` spells.

    Raises:
        ValueError: None of that type.
    """
    plain = _strip(annotation)
    if plain is str:
        return text
    if plain is bool:
        return _bool(text)
    if plain is int or plain is float:
        # `int(3.5)` would lose something, and so would a float that looks like an int's text.
        return int(text, 10) if plain is int else float(text)
    origin = typing.get_origin(plain)
    if origin in (typing.Union, types.UnionType):
        return _of_union(text, typing.get_args(plain))
    if origin is Literal:
        return _of_literal(text, typing.get_args(plain))
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        return _of_enum(text, plain)
    if plain in (object, Any, inspect.Parameter.empty):
        return _json_or_text(text)
    if isinstance(plain, type):
        of_text = getattr(find(cast("type[object]", plain)), "of_text", None)
        if of_text is not None:
            return cast("object", of_text(text))
    return _validated(text, annotation)


def show_type(annotation: object) -> str:
    """Return an annotation as people write it."""
    if annotation is object or annotation is inspect.Parameter.empty:
        return "any"
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _options(parameters: Collection[TaskParameter]) -> dict[str, TaskParameter]:
    options = {one.option: one for one in parameters}
    negative = {f"--no-{one.option[2:]}": one for one in parameters if one.is_flag}
    # A parameter that is itself called `no_x` wins over the negation of `x`.
    return {**negative, **options}


def _option_name(token: str) -> str:
    name = token.partition("=")[0]
    return name.replace("_", "-") if name.startswith("--") else name


def _negated(name: str, parameter: TaskParameter) -> bool:
    return name != parameter.option


def _strip(annotation: object) -> object:
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("true or false")


def _of_union(text: str, members: Sequence[object]) -> object:
    if type(None) in members and text.lower() in _NONES:
        return None
    # A text fits `str` always, so that comes last.
    for member in sorted(members, key=lambda member: _strip(member) is str):
        if member is not type(None):
            try:
                return convert(text, member)
            except ValueError:
                continue
    raise ValueError("fits no member of the union")


def _of_literal(text: str, members: Sequence[object]) -> object:
    for member in members:
        if str(member) == text:
            return member
    raise ValueError(f"one of {', '.join(map(str, members))}")


def _of_enum(text: str, kind: type[enum.Enum]) -> enum.Enum:
    for member in kind:
        if text in (member.name, str(member.value)):
            return member
    raise ValueError(f"one of {', '.join(member.name for member in kind)}")


def _json_or_text(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _validated(text: str, annotation: object) -> object:
    pydantic = import_module("pydantic")
    adapter = pydantic.TypeAdapter(
        annotation, config=None if _has_config(annotation) else {"arbitrary_types_allowed": True}
    )
    # pydantic's ValidationError is a ValueError.
    return adapter.validate_python(_json_or_text(text))


def _has_config(annotation: object) -> bool:
    plain = _strip(annotation)
    return isinstance(plain, type) and (
        hasattr(plain, "__pydantic_config__")
        or hasattr(plain, "model_config")
        or hasattr(plain, "__dataclass_fields__")
        or hasattr(plain, "__total__")
    )


def _reason(error: ValueError) -> str:
    """Return what is wrong inside a larger value, in one line."""
    details = getattr(error, "errors", None)
    if details is None:
        text = str(error)
        return f": {text}" if text and "invalid literal" not in text else ""
    first = details()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f": {where + ': ' if where else ''}{first['msg']}"
