"""The interface of a task, both as it is encoded and as programs look at it."""

import functools
import inspect
import typing
from collections.abc import Callable
from types import GenericAlias
from typing import Any, Final

from millstream._documentation import Docstring
from millstream._interface import Interface
from millstream._interface_schema import schema_of
from millstream._native_interface import NativeInterface, as_shown, outputs_of

#: Mark of a function that gathers the items of a generator.
GATHERS: Final = "__millstream_gathers__"


class TaskInterface(Interface, NativeInterface):
    """Parameters and result of a task: `inputs`, `outputs`, and how they become bytes.

    Annotations are looked at when they are first needed, as in `Interface`.
    """

    def __init__(self, func: Callable[..., object]) -> None:
        super().__init__(func)
        #: The result is the list of the items that the user's function yields.
        self.gathers: bool = bool(getattr(func, GATHERS, False))

    @functools.cached_property
    def annotations(self) -> dict[str, object]:
        """Resolved annotation of every parameter, and of the result as `return`."""
        found = dict(super().annotations)
        if self.gathers:
            items = typing.get_args(found.get("return", Any))
            found["return"] = GenericAlias(list, items[:1] or (Any,))
        return found

    @functools.cached_property
    def inputs(self) -> dict[str, tuple[Any, Any]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Type and default of each parameter; `inspect.Parameter.empty`: none."""
        empty = inspect.Parameter.empty
        return {
            name: (as_shown(self.annotations.get(name, empty)), self.defaults.get(name, empty))
            for name in self.names
        }

    @functools.cached_property
    def outputs(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Type of each output."""
        return outputs_of(self.annotations.get("return"))

    @functools.cached_property
    def docstring(self) -> Docstring | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The function's docstring taken apart; None: it has none."""
        return Docstring(callable_=self.func) if self.func.__doc__ else None

    @property
    def json_schema(self) -> dict[str, Any]:
        """JSON schema of the inputs, made of the annotations as they were written."""
        empty = inspect.Parameter.empty
        return schema_of(
            {
                name: (self.annotations.get(name, empty), self.defaults.get(name, empty))
                for name in self.names
            }
        )

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return NativeInterface.__repr__(self)
