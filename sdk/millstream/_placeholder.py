"""What stands for a value while code is traced into a plan.

It can be handed to tasks, put into lists, tuples and dicts, awaited and, when it is a tuple of
known size, taken apart. Whatever asks for the value itself is refused at the line that does.
"""

import inspect
import itertools
import linecache
import pathlib
import typing
from collections.abc import Generator, Iterator
from types import FrameType
from typing import Any, Final, NoReturn, cast

from millstream._errors_plans import PlanError, StaticControlFlowError
from millstream._values_describe import is_named_tuple
from millstream_events.plans import Path

_OWN_FOLDER: Final = str(pathlib.Path(__file__).parent)
_numbers: Final = itertools.count()
_ADVICE: Final = (
    "it is known only when the plan is walked. Do this inside a task, or make the task around it "
    "an ordinary one (without static=True)"
)


def place_of_caller() -> str:
    """Return file and line of the innermost frame that is not Millstream's, with its text."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith((_OWN_FOLDER, "<frozen")):
        frame = frame.f_back
    if frame is None:
        return ""
    file, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(file, line).strip()
    return f"{file}:{line}" + (f": {text}" if text else "")


class Origin(typing.NamedTuple):
    """Where the value will come from."""

    #: Number of the node; -1: an input of the plan.
    node: int
    #: Of the node's output, or of the plan's inputs.
    path: Path
    #: What people see of it.
    shown: str
    #: Annotations that the value passes on its way, the first one as it was declared.
    hints: tuple[object, ...]


def origin_of(value: object) -> Origin | None:
    """Return where a placeholder's value comes from; None: it is none."""
    return cast("Origin", value.__dict__["origin"]) if isinstance(value, Placeholder) else None


def element_hints(hint: object) -> tuple[object, ...] | None:
    """Return the annotations of the elements of a tuple of known size; None: it is none."""
    args = typing.get_args(hint)
    if is_named_tuple(hint):
        fields = typing.get_type_hints(cast("type", hint), include_extras=True)
        return tuple(fields.get(name, Any) for name in cast("Any", hint)._fields)
    if typing.get_origin(hint) is tuple and args and args[-1] is not Ellipsis:
        return args
    return None


def _refusal(value: object, what: str) -> StaticControlFlowError:
    origin = origin_of(value)
    shown = "a placeholder" if origin is None else origin.shown
    return StaticControlFlowError(
        f"the value of {shown} is asked for ({what}) at {place_of_caller()}\n{_ADVICE}"
    )


class Placeholder:
    """A value that is not there yet."""

    def __init__(self, origin: Origin) -> None:
        self.__dict__["origin"] = origin
        self.__dict__["number"] = next(_numbers)

    def _element(self, step: int, what: str) -> "Placeholder":
        origin = cast("Origin", self.__dict__["origin"])
        hint = origin.hints[-1]
        hints = element_hints(hint)
        if hints is None or len(origin.hints) > 1:
            raise _refusal(self, what)
        index = range(len(hints))[step]
        names = cast("Any", hint)._fields if is_named_tuple(hint) else None
        key: int | str = index if names is None else names[index]
        shown = f"{origin.shown}[{index}]" if names is None else f"{origin.shown}.{key}"
        found = Origin(origin.node, (*origin.path, key), shown, (hints[index],))
        return Placeholder(found)

    def __await__(self) -> Generator[Any, Any, "Placeholder"]:
        yield from ()  # There is nothing to wait for.
        return self

    def __iter__(self) -> Iterator["Placeholder"]:
        origin = cast("Origin", self.__dict__["origin"])
        hints = element_hints(origin.hints[-1])
        if hints is None:
            raise _refusal(self, "iteration")
        return iter([self._element(index, "iteration") for index in range(len(hints))])

    def __getitem__(self, step: object) -> "Placeholder":
        if not isinstance(step, int) or isinstance(step, bool):
            raise _refusal(self, f"[{step!r}]")
        try:
            return self._element(step, f"[{step!r}]")
        except IndexError:
            shown = cast("Origin", self.__dict__["origin"]).shown
            text = f"{shown} has no element {step} at {place_of_caller()}"
            raise PlanError(text) from None

    def __getattr__(self, name: str) -> "Placeholder":
        origin = cast("Origin", self.__dict__["origin"])
        hint = origin.hints[-1]
        if is_named_tuple(hint) and name in cast("Any", hint)._fields:
            return self._element(cast("Any", hint)._fields.index(name), f".{name}")
        if name.startswith("__"):
            # Asked for by protocols, such as copying: nothing of the value's.
            raise AttributeError(name)
        raise _refusal(self, f".{name}")

    def __setattr__(self, name: str, value: object) -> None:
        raise _refusal(self, f".{name} = ...")

    def __repr__(self) -> str:
        return f"<placeholder of {cast('Origin', self.__dict__['origin']).shown}>"

    def __hash__(self) -> int:
        return hash((Placeholder, self.__dict__["number"]))


#: What a value may be asked for, by the name of its method.
_ASKED: Final = {
    "bool": "if, while, and, or, not", "len": "len()", "contains": "in", "call": "a call",
    "str": "str()", "format": "formatting", "int": "int()", "float": "float()",
    "index": "an index", "complex": "complex()", "bytes": "bytes()", "round": "round()",
    "trunc": "math.trunc()", "floor": "math.floor()", "ceil": "math.ceil()", "abs": "abs()",
    "neg": "-", "pos": "+", "invert": "~", "eq": "==", "ne": "!=", "lt": "<", "le": "<=",
    "gt": ">", "ge": ">=", "divmod": "divmod()", "rdivmod": "divmod()", "reversed": "reversed()",
    "next": "next()", "aiter": "async for", "anext": "anext()", "enter": "with", "exit": "with",
    "aenter": "async with", "aexit": "async with", "setitem": "[...] = ...",
    "delitem": "del [...]", "delattr": "del", "fspath": "a path", "reduce_ex": "pickling",
    "copy": "a copy", "deepcopy": "a copy",
    **{
        f"{prefix}{name}": symbol
        for prefix in ("", "r", "i")
        for name, symbol in {
            "add": "+", "sub": "-", "mul": "*", "matmul": "@", "truediv": "/", "floordiv": "//",
            "mod": "%", "pow": "**", "lshift": "<<", "rshift": ">>", "and": "&", "or": "|",
            "xor": "^",
        }.items()
    },
}  # fmt: skip


def _asking(what: str) -> Any:
    def ask(self: Placeholder, *_: object) -> NoReturn:
        raise _refusal(self, what)

    return ask


for _name, _what in _ASKED.items():
    setattr(Placeholder, f"__{_name}__", _asking(_what))
