"""Plans as programs see them: made, looked at, drawn and run."""

import difflib
import functools
import inspect
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from millstream import _plan_drawing
from millstream._errors_plans import PlanError, PlanInputError
from millstream._plan_trace import Traced, trace
from millstream._stream import StreamTask
from millstream._task import Task
from millstream._values_sink import Sink
from millstream._values_wire import hash_bytes
from millstream_events.compose import item_hash
from millstream_events.plans import (
    Converted,
    Fields,
    Given,
    Items,
    Output,
    Part,
    Path,
    Raw,
    leaves,
)

#: Nodes that a notebook shows as an image; a larger plan is shown as text.
_DRAWN_MAX: Final = 200


class PlanNode(NamedTuple):
    """One call of a plan."""

    #: `<short name>#<number>`, unique in the plan.
    name: str
    task: Task[..., Any]
    #: What each parameter takes, as text.
    inputs: Mapping[str, str]
    #: Names of the nodes that it waits for.
    after: tuple[str, ...]
    #: Names of the plan's inputs that it takes.
    given: tuple[str, ...]
    group: str
    #: File, line and text of the call.
    place: str


class Plan:
    """A graph of task calls: traced from a function, checked, and not run yet.

    `millstream.run(plan, ...)` runs it, `plan(...)` calls it from a task, and `print(plan)` draws
    it as text. Inputs are given by name.
    """

    def __init__(self, task: Task[..., Any], traced: Traced, given: Mapping[str, object]) -> None:
        #: What is run: the task whose function was traced, as a static one.
        self.task = task
        self.traced = traced
        #: Values of the parameters that were fixed when the plan was made.
        self.given = dict(given)
        self.name = task.name

    def __call__(self, **inputs: Any) -> Any:
        """Call the plan from a task, as the task that it was made of is called."""
        task: Any = self.task
        return task(**inputs)

    @property
    def inputs(self) -> dict[str, Any]:
        """Annotation of each input that is left open, by name."""
        hints = self.task.interface.hints
        return {name: hint for name, hint in hints.items() if name not in self.given}

    @property
    def nodes(self) -> tuple[PlanNode, ...]:
        """The calls, in the order in which the code made them."""
        return self._nodes

    @functools.cached_property
    def _nodes(self) -> tuple[PlanNode, ...]:
        traced = self.traced.nodes
        names = [f"{node.task.short_name}#{number}" for number, node in enumerate(traced, 1)]
        return tuple(
            PlanNode(
                name,
                node.task,
                dict(node.shown),
                tuple(names[source] for source in taken_by(node.inputs)),
                _given_to(node.inputs),
                node.group,
                node.place,
            )
            for name, node in zip(names, traced, strict=True)
        )

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Pairs of node names: what the second takes, the first gives."""
        return tuple((source, node.name) for node in self.nodes for source in node.after)

    @functools.cached_property
    def digest(self) -> bytes:
        """16 bytes that change when the tasks, their code, or what they take changes."""
        parts = [self.task.ref().identity]
        for node in self.traced.nodes:
            taken = b"" if node.inputs is None else _hash_of(node.inputs)
            parts += [node.task.ref().identity, node.group.encode(), taken]
        result = self.traced.result
        return hash_bytes([*parts, b"" if result is None else _hash_of(result)])

    def encode_inputs(
        self, args: tuple[object, ...], kwargs: Mapping[str, object], sink: Sink
    ) -> tuple[str, bytes] | None:
        """Return codec and bytes of the inputs of one call.

        Raises:
            PlanInputError: An input was fixed when the plan was made.
            RuntimeDataValidationError: An input is missing, unknown or does not fit.
        """
        fixed = sorted(set(self.given) & set(kwargs))
        if fixed:
            raise PlanInputError(f"{self.name}: {fixed} were fixed when the plan was made")
        if args and self.given:
            raise PlanInputError(f"{self.name}: the inputs left open are given by name")
        return self.task.interface.encode_inputs(args, {**self.given, **kwargs}, sink)

    # -------------------------------------------------------------- drawings

    def text(self) -> str:
        """Return the plan as lines of text, one for each node."""
        return _plan_drawing.text_of(self)

    def mermaid(self) -> str:
        """Return the plan as a Mermaid flow chart."""
        return _plan_drawing.mermaid_of(self)

    def svg(self) -> str:
        """Return the plan as an SVG image."""
        return _plan_drawing.svg_of(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, for JSON."""
        return _plan_drawing.dict_of(self)

    @property
    def gives(self) -> str:
        """What the plan gives, as text."""
        return "nothing" if self.traced.result is None else self.traced.shown

    @property
    def result_after(self) -> tuple[str, ...]:
        """Names of the nodes that the result is taken from."""
        return tuple(self.nodes[source].name for source in taken_by(self.traced.result))

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Plan {self.name}, {len(self.traced.nodes)} nodes>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        if len(self.nodes) > _DRAWN_MAX:
            return {"text/plain": self.text()}
        return {"text/plain": self.text(), "image/svg+xml": self.svg()}


def plan_of(task: Task[..., Any], given: Mapping[str, object]) -> Plan:
    """Run a task's function once, with placeholders for what is not given, and return its plan.

    Raises:
        PlanInputError: The task has no such parameter.
        PlanError: Or one of its subclasses; see `_plan_trace.trace`.
    """
    if isinstance(cast("object", task), StreamTask):
        raise PlanError(f"{task.name} yields; a plan is made of a function that returns")
    names = task.interface.names
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PlanInputError(f"{task.name} has no parameter {name!r}, only {list(names)}{hint}")
    return Plan(task, trace(task, inspect.unwrap(task.func), given), given)


def taken_by(part: Part | None) -> list[int]:
    """Return the nodes that a part takes from, ascending."""
    return sorted({leaf.node for leaf in leaves(part) if isinstance(leaf, Output)})


def _given_to(part: Part | None) -> tuple[str, ...]:
    names = [str(leaf.path[0]) for leaf in leaves(part) if isinstance(leaf, Given)]
    return tuple(dict.fromkeys(names))


def _hash_of(part: Part) -> bytes:
    if isinstance(part, Raw):
        return item_hash(part.content)
    if isinstance(part, Given | Output):
        node = part.node if isinstance(part, Output) else -1
        return hash_bytes([b"taken", str(node).encode(), *_steps(part.path)])
    if isinstance(part, Items):
        return hash_bytes([b"items", *map(_hash_of, part.parts)])
    if isinstance(part, Fields):
        names = [name.encode() for name in part.names]
        return hash_bytes([b"fields", *names, *map(_hash_of, part.parts)])
    assert isinstance(part, Converted), part
    return hash_bytes([b"converted", _hash_of(part.part)])


def _steps(path: Path) -> list[bytes]:
    return [f"{type(step).__name__} {step}".encode() for step in path]
