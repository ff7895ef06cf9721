"""What a run gives back, as Flyte's `ActionOutputs`."""

import typing
from typing import Any, Self, cast

from millstream import _values
from millstream._html import mimebundle, values_html
from millstream._remote_shown import as_json
from millstream._task import Task
from millstream_events.values import Inline


class ActionOutputs(tuple[Any, ...]):
    """Outputs of a run, in order; by name in `named_outputs`, and as attributes.

    An attribute is the name of an output, or its position: `o0`, `o1` and so on.
    """

    names: tuple[str, ...]

    def __new__(cls, values: tuple[Any, ...], names: tuple[str, ...]) -> Self:
        """Return the outputs `values`, called `names`."""
        outputs = super().__new__(cls, values)
        outputs.names = names
        return outputs

    @property
    def named_outputs(self) -> dict[str, Any]:
        """The outputs by name."""
        return dict(zip(self.names, self, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Return the outputs by name."""
        return self.named_outputs

    def to_json(self) -> str:
        """Return the outputs by name as JSON text."""
        return as_json(self.named_outputs)

    def __getattr__(self, name: str) -> Any:
        if name != "names" and name in self.names:
            return self[self.names.index(name)]
        position = name[1:]
        if name.startswith("o") and position.isdecimal() and int(position) < len(self):
            return self[int(position)]
        raise AttributeError(f"no output {name!r}")

    def __repr__(self) -> str:
        shown = [
            f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}"
            for name, value in zip(self.names, self, strict=True)
        ]
        return f"ActionOutputs({', '.join(shown)})"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return mimebundle(repr(self), lambda: values_html(self.named_outputs, "output"))

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self), self.names


def outputs_of(task: Task[..., Any] | None, result: object) -> ActionOutputs:
    """Return the outputs that `result` stands for.

    A task declared to return `tuple[A, B]` or a named tuple has several; one without a result
    has the single output None, as in Flyte's local mode.
    """
    names = () if task is None else task.interface.output_names
    if task is not None and _is_several(task, names, result):
        return ActionOutputs(tuple(cast("tuple[Any, ...]", result)), names)
    return ActionOutputs((result,), names or ("o0",))


def _is_several(task: Task[..., Any], names: tuple[str, ...], result: object) -> bool:
    if not isinstance(result, tuple):
        return False
    if names != ("o0",):
        return True
    hint = task.interface.annotations["return"]
    args = typing.get_args(hint)
    return typing.get_origin(hint) is tuple and args[-1:] != (Ellipsis,) and bool(args)


def decoded(task: Task[..., Any] | None, output: Inline | None) -> object:
    """Return a run's result; without its task, by what the bytes themselves say.

    Raises:
        RuntimeDataValidationError: The bytes are no result of this task.
    """
    if output is None:
        return None
    if task is not None:
        return task.interface.decode_output(output.codec, output.content)
    return _values.decode(output.codec, output.content)
