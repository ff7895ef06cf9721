"""Inputs and outputs of a task as programs look at them."""

import enum
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

from millstream._documentation import Docstring
from millstream._interface_schema import schema_of
from millstream._values_describe import is_named_tuple


class _HasDefault:
    """Stands for a default that exists and is not known here."""


@dataclass(frozen=True)
class NativeInterface:
    """Inputs and outputs of a task, in Python's types."""

    #: Type and default of each input; `inspect.Parameter.empty`: none.
    inputs: dict[str, tuple[Any, Any]]
    outputs: dict[str, Any]
    docstring: Docstring | None = None
    _remote_defaults: dict[str, Any] | None = field(default=None, repr=False)

    has_default: ClassVar[type] = _HasDefault

    @classmethod
    def from_types(
        cls,
        inputs: dict[str, tuple[Any, Any]],
        outputs: dict[str, Any],
        default_inputs: dict[str, Any] | None = None,
    ) -> "NativeInterface":
        """Return an interface made of types.

        Raises:
            ValueError: An input is said to have a default, and there is none.
        """
        for name, (_, default) in inputs.items():
            if default is cls.has_default and name not in (default_inputs or {}):
                raise ValueError(
                    f"Input {name} has a default value but no default input provided for "
                    f"remote task."
                )
        return NativeInterface(inputs, outputs, None, default_inputs)

    @classmethod
    def from_callable(cls, func: Callable[..., Any]) -> "NativeInterface":
        """Return the interface of a function.

        Raises:
            ValueError: The function takes `*args` or `**kwargs`.
            NameError: An annotation names what is not there.
        """
        signature = inspect.signature(func)
        hints = typing.get_type_hints(func, include_extras=True)
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise ValueError(
                    f"Function {func.__name__} cannot have variable positional or keyword "
                    f"arguments."
                )
        inputs = {
            name: (as_shown(hints.get(name, parameter.annotation)), parameter.default)
            for name, parameter in signature.parameters.items()
        }
        docstring = Docstring(callable_=func) if func.__doc__ else None
        return NativeInterface(inputs, outputs_of(hints.get("return")), docstring)

    def has_outputs(self) -> bool:
        """Say whether the task gives anything."""
        return bool(self.outputs)

    def required_inputs(self) -> list[str]:
        """Return the names of the inputs without a default."""
        empty = inspect.Parameter.empty
        return [name for name, (_, default) in self.inputs.items() if default is empty]

    def num_required_inputs(self) -> int:
        """Return how many inputs have no default."""
        return len(self.required_inputs())

    def get_input_types(self) -> dict[str, Any]:
        """Return the type of each input."""
        return {name: hint for name, (hint, _) in self.inputs.items()}

    def convert_to_kwargs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return all arguments by name.

        Raises:
            ValueError: There are more than inputs.
        """
        if len(args) > len(self.inputs):
            raise ValueError(
                f"Too many positional arguments provided, expected inputs {list(self.inputs)}, "
                f"args {len(args)}"
            )
        kwargs.update(zip(self.inputs, args, strict=False))
        if len(kwargs) > len(self.inputs):
            raise ValueError(
                f"Too many keyword arguments provided, expected inputs {list(self.inputs)}, "
                f"args {list(kwargs)}"
            )
        return kwargs

    @property
    def json_schema(self) -> dict[str, Any]:
        """JSON schema of the inputs."""
        return schema_of(self.inputs)

    def __repr__(self) -> str:
        shown: list[str] = []
        for name, (hint, default) in self.inputs.items():
            text = f"{name}: {_show(hint)}"
            if default is self.has_default:
                text += " = ..."
            elif default is not inspect.Parameter.empty:
                text += f" = {default}"
            shown.append(text)
        outputs = ", ".join(f"{name}: {_show(hint)}" for name, hint in self.outputs.items())
        if len(self.outputs) > 1:
            outputs = f"({outputs})"
        return f"({', '.join(shown)})" + (f" -> {outputs}" if outputs else "") + ":"


def _show(hint: object) -> str:
    if isinstance(hint, str):
        return hint
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else repr(hint)


def as_shown(annotation: object) -> object:
    """Return the type that an interface shows for an annotation: an enum for a `Literal`."""
    return literal_to_enum(annotation) if typing.get_origin(annotation) is Literal else annotation


@functools.lru_cache(maxsize=1024)
def literal_to_enum(literal_type: Any) -> Any:
    """Return the strings of a `Literal` as an `Enum`; `Any` when not all of them are strings.

    Raises:
        TypeError: Not a `Literal`.
    """
    if typing.get_origin(literal_type) is not Literal:
        raise TypeError(f"{literal_type} is not a Literal")
    values = typing.get_args(literal_type)
    if not all(isinstance(value, str) for value in values):
        return Any
    # The functional form is what makes members of values that are not known before.
    return enum.Enum("LiteralEnum", {value.upper(): value for value in values})


def extract_return_annotation(return_annotation: Any) -> dict[str, Any]:
    """Return the outputs that a return annotation means, by name.

    Raises:
        TypeError: A string, a tuple of any length, or a tuple of one.
    """
    if isinstance(return_annotation, str):
        raise TypeError("String return annotations are not supported.")
    args = typing.get_args(return_annotation)
    if typing.get_origin(return_annotation) is tuple:
        if len(args) == 1:
            raise TypeError(
                "Tuples should be used to indicate multiple return values, found only one "
                "return variable."
            )
        if Ellipsis in args:
            raise TypeError("Variable length tuples are not supported as return types.")
    outputs = outputs_of(return_annotation)
    if isinstance(return_annotation, tuple) and len(outputs) == 1:
        raise TypeError("Please don't use a tuple if you're just returning one thing.")
    return outputs


def outputs_of(annotation: Any) -> dict[str, Any]:
    """Return the outputs that a return annotation means: `tuple[A, B]` is `o0` and `o1`."""
    if annotation is None or annotation in (type(None), inspect.Parameter.empty):
        return {}
    if is_named_tuple(annotation):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return {name: hints.get(name, Any) for name in annotation._fields}
    args: tuple[Any, ...] = typing.get_args(annotation)
    if isinstance(cast("object", annotation), tuple):
        args = annotation
    elif typing.get_origin(annotation) is not tuple or not args or args[-1] is Ellipsis:
        return {"o0": as_shown(annotation)}
    return {f"o{index}": as_shown(each) for index, each in enumerate(args)}
