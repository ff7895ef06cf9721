"""Running a function once with placeholders, to see which tasks it calls with what.

Whatever else the code does is done now, once: only calls of tasks become nodes.
"""

import asyncio
import contextlib
import inspect
import itertools
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextvars import copy_context
from typing import Any, Final, NamedTuple, TypeVar, Union, cast, get_args, get_origin

from millstream import _pickling, _values
from millstream._cache import hash_of_inputs
from millstream._errors_plans import (
    PlanCycleError,
    PlanError,
    PlanTooLargeError,
    PlanTypeError,
)
from millstream._placeholder import (
    Origin,
    Placeholder,
    element_hints,
    origin_of,
    place_of_caller,
)
from millstream._plan_fit import may_fit, wire_fits
from millstream._planning import planning
from millstream._task import Task
from millstream._values_describe import is_named_tuple
from millstream._values_sink import Sink
from millstream_events.plans import (
    FAN_IN_MAX,
    NODES_MAX,
    Converted,
    Fields,
    Given,
    Items,
    Output,
    Part,
    Raw,
    leaves,
)

R = TypeVar("R")
#: Static tasks that call one another, inside one trace.
_DEPTH_MAX: Final = 50
_LISTS: Final = ("list", "Sequence", "MutableSequence", "Iterable", "Collection")
_MAPS: Final = ("dict", "Mapping", "MutableMapping")
_SHOWN_CHARS_MAX: Final = 40


class TracedNode(NamedTuple):
    """One call that traced code made."""

    task: Task[..., Any]
    #: None: the task has no parameters.
    inputs: Fields | None
    #: What people see of each input.
    shown: tuple[tuple[str, str], ...]
    group: str
    #: File and line of the call.
    place: str


class Traced(NamedTuple):
    """What a trace has seen."""

    nodes: tuple[TracedNode, ...]
    #: None: the function gives nothing.
    result: Part | None
    shown: str
    #: Holds what must be done before the plan's constants leave.
    sink: Sink


class Tracer:
    """Takes the calls of one function that is being traced."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.group = ""
        self.sink = Sink()
        self.nodes: list[TracedNode] = []
        #: Static tasks that the current code is inside of.
        self._above: list[str] = []

    def call(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Add a node for a call of a task and return what stands for its result.

        Raises:
            PlanTooLargeError: One node more than a plan may have.
            PlanTypeError: What is taken from another node, or an input, never fits.
            RuntimeDataValidationError: A constant does not fit, or a parameter is missing.
        """
        if len(self.nodes) >= NODES_MAX:
            raise PlanTooLargeError(
                f"{self.name} makes more than {NODES_MAX} calls, the most that a plan may have"
            )
        if task.is_static:
            fixed: Any = getattr(task, "fixed", None)
            kwargs = kwargs if fixed is None else {**fixed.given, **kwargs}
            return self._inline(task, inspect.unwrap(task.func), args, kwargs)
        place = place_of_caller()
        bound = task.interface.bind(args, kwargs)
        hints = task.interface.hints
        parts = {
            name: self.part_of(value, hints[name], f"{task.name}: {name}")
            for name, value in bound.items()
        }
        inputs = Fields(tuple(parts), tuple(parts.values())) if parts else None
        sources = {leaf.node for leaf in leaves(inputs) if isinstance(leaf, Output)}
        if len(sources) > FAN_IN_MAX:
            raise PlanTooLargeError(
                f"{task.name} takes from {len(sources)} calls at {place}; the limit is "
                f"{FAN_IN_MAX}: put a task between that takes a share of them"
            )
        # Ignored inputs are looked at when a call is made; a wrong name should show now.
        hash_of_inputs(task, None)
        shown = tuple((name, shown_of(value)) for name, value in bound.items())
        self.nodes.append(TracedNode(task, inputs, shown, self.group, place))
        number = len(self.nodes) - 1
        label = f"{task.short_name}#{number + 1}"
        return Placeholder(Origin(number, (), label, (task.interface.annotations.get("return"),)))

    async def awaited(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Do as `call`, and await what is to be awaited."""
        outcome = self.call(task, args, kwargs)
        return await outcome if inspect.iscoroutine(outcome) else outcome

    # -------------------------------------------------------------- parts

    def part_of(self, value: object, hint: object, where: str) -> Part:
        """Return what a parameter, or the result, is made of.

        Raises:
            PlanTypeError, RuntimeDataValidationError, PlanError: as `call`.
        """
        origin = origin_of(value)
        if origin is not None:
            return self._taken(origin, hint, where)
        if not _has_placeholder(value):
            if inspect.iscoroutine(value):
                value.close()
                raise PlanError(f"{where}: a coroutine at {place_of_caller()}; await it")
            codec, content = _values.encode(value, hint, where=where, sink=self.sink)
            return Raw(content, codec)
        return self._container(value, hint, where)

    def _taken(self, origin: Origin, hint: object, where: str) -> Part:
        part: Part = Given(origin.path) if origin.node < 0 else Output(origin.node, origin.path)
        for source, target in itertools.pairwise((*origin.hints, hint)):
            if not may_fit(source, target):
                raise PlanTypeError(
                    f"{where} takes {_text_of(target)}, and {origin.shown} gives "
                    f"{_text_of(source)}, at {place_of_caller()}"
                )
            if not wire_fits(source, target):
                part = Converted(part, _pickling.dump(source)[1], _pickling.dump(target)[1])
        return part

    def _container(self, value: Any, hint: object, where: str) -> Part:
        kind: str = type(value).__name__
        arm = _arm_for(value, hint)
        if isinstance(value, dict) and all(type(key) is str for key in cast("Any", value)):
            mapping = cast("dict[str, object]", value)
            if arm is Any or _name_of(arm) in _MAPS:
                args = get_args(arm)
                item = args[1] if len(args) == 2 else Any
                parts = [self.part_of(v, item, f"{where}[{k!r}]") for k, v in mapping.items()]
                return Fields(tuple(mapping), tuple(parts))
        if isinstance(value, list) and (arm is Any or _name_of(arm) in _LISTS):
            return self._items(value, itertools.repeat((*get_args(arm), Any)[0]), where)
        if isinstance(value, tuple) and is_named_tuple(arm):
            names: tuple[str, ...] = cast("Any", arm)._fields
            made = self._items(value, element_hints(arm), where)
            if len(made.parts) == len(names) == len(cast("tuple[object, ...]", value)):
                return Fields(names, made.parts)
        if isinstance(value, tuple) and get_origin(arm) is tuple:
            args = get_args(arm)
            if args[-1] is Ellipsis:
                return self._items(value, itertools.repeat(args[0]), where)
            if len(args) == len(cast("tuple[object, ...]", value)):
                return self._items(value, args, where)
        raise PlanError(
            f"{where} takes {_text_of(hint)}, and a {kind} with values that are "
            f"not there yet cannot be made into one, at {place_of_caller()}; make it in a task"
        )

    def _items(self, value: Any, hints: Any, where: str) -> Items:
        pairs = zip(cast("Sequence[object]", value), hints, strict=False)
        return Items(
            tuple(
                self.part_of(item, hint, f"{where}[{index}]")
                for index, (item, hint) in enumerate(pairs)
            )
        )

    # -------------------------------------------------------------- static tasks inside

    def _inline(
        self, task: Task[..., Any], function: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """Run the body of another static task here: its calls are nodes of this plan."""
        if task.cache.is_enabled() or task.settings.timeout:
            raise PlanError(
                f"{task.name} is called at {place_of_caller()} inside a plan, which takes its "
                f"calls in, so that its own cache or timeout would do nothing; set them on the "
                f"tasks that it calls, or call it from an ordinary task"
            )
        bound = {
            name: self._passed(value, task.interface.hints[name], f"{task.name}: {name}")
            for name, value in task.interface.bind(args, kwargs).items()
        }
        given, named = task.interface.arguments_of(bound)
        hint = task.interface.annotations.get("return")
        if task.interface.is_async:
            work = self._inline_async(task.name, lambda: function(*given, **named), hint)
            return work if _in_loop() else _on_a_loop(work)
        with self._inside(task.name):
            return self._passed(function(*given, **named), hint, f"the result of {task.name}")

    async def _inline_async(self, name: str, begin: Callable[[], Any], hint: object) -> Any:
        with self._inside(name):
            return self._passed(await begin(), hint, f"the result of {name}")

    @contextlib.contextmanager
    def _inside(self, name: str) -> Generator[None]:
        self._above.append(name)
        try:
            if len(self._above) > _DEPTH_MAX:
                circle = " -> ".join(self._above[self._above.index(name) :][:5])
                raise PlanCycleError(
                    f"static tasks call one another more than {_DEPTH_MAX} deep: {circle} ..."
                )
            yield
        finally:
            self._above.pop()

    def _passed(self, value: object, hint: object, where: str) -> object:
        """Return a value as the other side of a call sees it."""
        origin = origin_of(value)
        if origin is not None:
            if hint is not None and not wire_fits(origin.hints[-1], hint):
                self._taken(origin, hint, where)  # Refuses what never fits.
                return Placeholder(origin._replace(hints=(*origin.hints, hint)))
            return value
        if _has_placeholder(value):
            return value
        if hint is None and value is None:
            return None
        codec, content = _values.encode(value, hint, where=where, sink=self.sink)
        return _values.decode(codec, content, hint, where=where)


def trace(
    task: Task[..., Any], function: Callable[..., Any], given: Mapping[str, object]
) -> Traced:
    """Run a task's function once and return what it called.

    Args:
        task: The task, for its parameters and its name.
        function: Its function.
        given: Values of parameters that are fixed; the others are inputs of the plan.

    Raises:
        StaticControlFlowError: The code asks for a value that is not there yet.
        PlanError: Or one of its subclasses.
        Exception: Whatever the function itself raises.
    """
    interface = task.interface
    values: dict[str, object] = {}
    for name, hint in interface.hints.items():
        if name in given:
            values[name] = given[name]
        else:
            values[name] = Placeholder(Origin(-1, (name,), name, (hint,)))
    args, kwargs = interface.arguments_of(_spread(task, values))
    tracer = Tracer(task.name)
    mark = planning.set(tracer)
    try:
        outcome = function(*args, **kwargs)
        if inspect.iscoroutine(outcome):
            outcome = _on_a_loop(outcome)
        hint = interface.annotations.get("return")
        result: Part | None = None
        if outcome is not None or hint not in (None, type(None)):
            result = tracer.part_of(outcome, _declared(hint), f"the result of {task.name}")
    finally:
        planning.reset(mark)
    return Traced(tuple(tracer.nodes), result, shown_of(outcome), tracer.sink)


def _declared(hint: object) -> object:
    return type(None) if hint is None else hint


def _spread(task: Task[..., Any], values: dict[str, object]) -> dict[str, object]:
    """Refuse `*args` and `**kwargs` of which nobody knows how many there will be."""
    parameters = inspect.signature(task.func).parameters
    for name, value in values.items():
        kind = parameters[name].kind
        several = kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if several and origin_of(value) is not None:
            raise PlanError(
                f"{task.name} takes any number of arguments (*{name}), and a plan has a fixed "
                f"number of inputs: give them names"
            )
    return values


def _on_a_loop(work: Coroutine[Any, Any, R]) -> R:
    """Run traced code on an event loop of its own: the current thread may have one already."""
    found: list[R] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(asyncio.run(work))
        except BaseException as exc:  # noqa: BLE001 - raised again in the thread that waits
            failed.append(exc)

    if not _in_loop():
        return asyncio.run(work)
    thread = threading.Thread(target=copy_context().run, args=(run,), name="millstream-trace")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _has_placeholder(value: object) -> bool:
    if isinstance(value, Placeholder):
        return True
    if isinstance(value, list | tuple | set | frozenset):
        return any(_has_placeholder(item) for item in cast("Sequence[object]", value))
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value).items()
        return any(_has_placeholder(part) for pair in pairs for part in pair)
    return False


def _arm_for(value: object, hint: object) -> object:
    """Return the arm of a union that a container is meant for; another annotation as it is."""
    kinds: dict[type, tuple[str, ...]] = {list: _LISTS, dict: _MAPS, tuple: ("tuple",)}
    if hint is object:
        return Any
    args = get_args(hint)
    if get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        arms = [arm for arm in args if _name_of(arm) in kinds.get(cast("type", type(value)), ())]
        plain = len(arms) == 1 and not getattr(_values.shape_of(hint), "tagged", True)
        return arms[0] if plain else hint
    if type(hint).__name__ == "_AnnotatedAlias":
        return _arm_for(value, args[0])
    return hint


def _name_of(hint: object) -> str:
    return getattr(get_origin(hint) or hint, "__name__", "")


def _text_of(hint: object) -> str:
    if hint is None:
        return "nothing"
    return hint.__qualname__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def shown_of(value: object) -> str:
    """Return a short text of a value for drawings."""
    origin = origin_of(value)
    if origin is not None:
        return origin.shown
    if isinstance(value, list | tuple):
        inner = ", ".join(shown_of(item) for item in cast("Sequence[object]", value)[:4])
        more = ", ..." if len(cast("Sequence[object]", value)) > 4 else ""
        return f"[{inner}{more}]" if isinstance(value, list) else f"({inner}{more})"
    if isinstance(value, dict):
        pairs = itertools.islice(cast("dict[object, object]", value).items(), 4)
        inner = ", ".join(f"{key!r}: {shown_of(item)}" for key, item in pairs)
        return "{" + inner + (", ..." if len(cast("Any", value)) > 4 else "") + "}"
    try:
        text = repr(value)
    # The repr of a user's class may do anything.
    except Exception:  # noqa: BLE001
        text = type(value).__qualname__
    return text if len(text) <= _SHOWN_CHARS_MAX else text[: _SHOWN_CHARS_MAX - 3] + "..."
