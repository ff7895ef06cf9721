"""One task over many inputs, in parallel, with results in the order of the inputs.

Inputs are taken from the iterables as room appears, so that memory grows with the number of
calls in flight and not with the number of inputs: at most `concurrency` calls run, and at most
`_AHEAD` times as many are started and not yet handed out (a slow item does not stop the ones
behind it before that). Items of long maps share actions: see `_map_flow`.
"""

import asyncio
import collections
import concurrent.futures
import contextvars
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sized
from typing import Any, Final, Literal, ParamSpec, TypeAlias, TypeVar, cast, overload

from millstream import _call
from millstream._context import OPEN_CALLS_MAX, ActionContext, current
from millstream._errors_plans import PlanError
from millstream._group import enter_group, group
from millstream._map_flow import aiter_, cancel, in_thread
from millstream._map_plan import MapPlan, is_long
from millstream._planning import planning
from millstream._syncify import background
from millstream._task import Task
from millstream.errors import SyncTaskCallInAsyncContextError

P = ParamSpec("P")
R = TypeVar("R")

#: Calls started and not handed out yet, for each one that may run.
_AHEAD: Final = 4

MappedAsync: TypeAlias = Task[..., R] | functools.partial[Coroutine[Any, Any, R]]
Mapped: TypeAlias = Task[..., Any] | functools.partial[Any]


class Mapper:
    """`millstream.map`: called plainly from sync code, or as `.aio` from async code."""

    @overload
    def __call__(
        self,
        func: MappedAsync[R],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: Literal[False],
        own_actions: bool = False,
    ) -> Iterator[R]: ...
    @overload
    def __call__(
        self,
        func: MappedAsync[R],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: bool = True,
        own_actions: bool = False,
    ) -> Iterator[R | Exception]: ...
    @overload
    def __call__(
        self,
        func: functools.partial[R],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: Literal[False],
        own_actions: bool = False,
    ) -> Iterator[R]: ...
    @overload
    def __call__(
        self,
        func: functools.partial[R],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: bool = True,
        own_actions: bool = False,
    ) -> Iterator[R | Exception]: ...

    def __call__(
        self,
        func: Mapped,
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: bool = True,
        own_actions: bool = False,
    ) -> Iterator[Any]:
        """Call `func` for each tuple of the zipped iterables; results in input order.

        Args:
            func: A task, or a `functools.partial` of one that leaves one parameter open.
            args: Iterables; the shortest one ends the map. None at all gives no results.
            group_name: Names the group `<task>_<group_name>`, instead of `<task>_map`.
            concurrency: Calls that may run at once; 0: all (10,000).
            return_exceptions: True: a failure is handed out as a value. False: the first one is
                raised, once the calls that still run are cancelled.
            own_actions: Show every item of a long map as an action of its own. Otherwise, from
                1,000 items on, items that need nothing of an action share actions.

        Raises:
            SyncTaskCallInAsyncContextError: Inside an async task; use `map.aio` there.
            TypeError: A partial that leaves not exactly one parameter open.
            ValueError: `concurrency` < 0.
        """
        context = current.get()
        if context is not None and planning.get() is None and _call.in_event_loop():
            raise SyncTaskCallInAsyncContextError(
                "`map(...)` was called from async code, where it would block the event loop; "
                "write `async for result in map.aio(...)`"
            )
        plan = _plan(func, args, group_name, concurrency, return_exceptions)
        if planning.get() is not None:
            return _traced(plan)
        if context is None:
            return _plain(plan)
        if not own_actions and _shares(context, plan):
            return in_thread(context, plan)
        return _in_thread(context, plan)

    @overload
    def aio(
        self,
        func: MappedAsync[R],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: Literal[False],
        own_actions: bool = False,
    ) -> AsyncIterator[R]: ...
    @overload
    def aio(
        self,
        func: MappedAsync[R],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: bool = True,
        own_actions: bool = False,
    ) -> AsyncIterator[R | Exception]: ...
    @overload
    def aio(
        self,
        func: functools.partial[R],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: Literal[False],
        own_actions: bool = False,
    ) -> AsyncIterator[R]: ...
    @overload
    def aio(
        self,
        func: functools.partial[R],
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: bool = True,
        own_actions: bool = False,
    ) -> AsyncIterator[R | Exception]: ...

    def aio(
        self,
        func: Mapped,
        *args: Iterable[Any],
        group_name: str | None = None,
        concurrency: int = 0,
        return_exceptions: bool = True,
        own_actions: bool = False,
    ) -> AsyncIterator[Any]:
        """Do the same from async code; see `__call__`."""
        plan = _plan(func, args, group_name, concurrency, return_exceptions)
        if planning.get() is not None:
            return _traced_aiter(plan)
        context = current.get()
        if context is not None and not own_actions and _shares(context, plan):
            return aiter_(context, plan)
        return _aiter(plan)


def _plan(
    mapped: Mapped,
    iterables: tuple[Iterable[Any], ...],
    group_name: str | None,
    concurrency: int,
    return_exceptions: bool,
) -> MapPlan:
    if concurrency < 0:
        raise ValueError(f"concurrency must be 0 (no bound of its own) or more, not {concurrency}")
    running_max = min(concurrency or OPEN_CALLS_MAX, OPEN_CALLS_MAX)
    if not iterables and isinstance(mapped, functools.partial):
        # Flyte looks at a partial when there is something to map it over.
        mapped = cast("Task[..., Any]", mapped.func)
    task, bound = _task_of(mapped, len(iterables))
    return MapPlan(
        task,
        ((bound.args + items, bound.keywords) for items in zip(*iterables, strict=False)),
        f"{task.name}_{group_name or 'map'}",
        running_max,
        running_max * _AHEAD,
        return_exceptions,
        _length(iterables),
        bounded=concurrency > 0,
    )


def _length(iterables: tuple[Iterable[Any], ...]) -> int:
    """Return how many calls there will be; -1: an iterable does not say how long it is."""
    lengths = [_length_of(each) for each in iterables]
    return min(lengths, default=0)


def _length_of(iterable: Iterable[Any]) -> int:
    if not isinstance(iterable, Sized):
        return -1
    try:
        return len(iterable)
    # A class of the user's may have a length for some of its objects only, and map needs none.
    except Exception:  # noqa: BLE001
        return -1


def _shares(context: ActionContext, plan: MapPlan) -> bool:
    """Say whether items may share actions; inside a trace there are none to share."""
    return is_long(plan) and _call.scope_here(context).id == context.action_id


def _task_of(mapped: Mapped, iterables: int) -> tuple[Task[..., Any], "functools.partial[Any]"]:
    """Return the task and what is bound already.

    Raises:
        TypeError: Not a task, or a partial that cannot take one more positional argument.
    """
    if isinstance(mapped, Task):
        return mapped, functools.partial(mapped.func)
    # Annotations bind nobody at run time: anything may come.
    what = cast("object", mapped)
    inner: object = mapped.func if isinstance(what, functools.partial) else None
    if not isinstance(inner, Task):
        raise TypeError(f"map takes a task or a partial of one, not {mapped!r}")
    task = cast("Task[..., Any]", inner)
    parameters = list(inspect.signature(task.func).parameters)
    for name in parameters[: len(mapped.args)]:
        if name in mapped.keywords:
            raise TypeError(
                f"Parameter {name!r} is provided both as positional argument and keyword argument "
                f"in a partial of {task.name}"
            )
    open_ = [name for name in parameters[len(mapped.args) :] if name not in mapped.keywords]
    if len(open_) != 1 or iterables > 1:
        raise TypeError(
            f"a partial of {task.name} must leave exactly one parameter unspecified, for the one "
            f"iterable; unspecified: {', '.join(open_) or 'none'}; iterables: {iterables}"
        )
    if parameters[len(mapped.args)] != open_[0]:
        raise TypeError(
            f"the mapped value of {task.name} comes by position, as "
            f"{parameters[len(mapped.args)]!r}, which the partial binds already; bind the "
            f"parameters before {open_[0]!r} by position"
        )
    return task, mapped


def _traced(plan: MapPlan) -> Iterator[Any]:
    """Make every call a node of the plan that is being traced; a failure fails the plan.

    Raises:
        PlanError: A concurrency was asked for.
    """
    if plan.running_max < OPEN_CALLS_MAX:
        raise PlanError(
            f"map({plan.task.name}, ..., concurrency={plan.running_max}) is in a plan, which "
            f"requests a node as soon as it can run; bound it by max_action_concurrency or a queue"
        )
    with group(plan.group):
        task: Any = plan.task
        found: list[Any] = [task(*args, **kwargs) for args, kwargs in plan.calls]
    return iter(found)


async def _traced_aiter(plan: MapPlan) -> AsyncIterator[Any]:
    for found in _traced(plan):
        yield await found if inspect.iscoroutine(found) else found


def _plain(plan: MapPlan) -> Iterator[Any]:
    """Call one by one, outside of a run."""
    for args, kwargs in plan.calls:
        try:
            result = plan.task.func(*args, **kwargs)
            if inspect.iscoroutine(result):
                result = background.run(result, name="map")
        except Exception as error:  # noqa: BLE001 a failure is a result
            result = plan.outcome(error)
        yield result


def _in_thread(context: ActionContext, plan: MapPlan) -> Iterator[Any]:
    """Keep calls in flight on the host's loop, and wait for each in turn in this thread."""
    started: collections.deque[concurrent.futures.Future[_call.Outcome] | Exception]
    started = collections.deque()
    gate = asyncio.Semaphore(plan.running_max)
    #: Touched on the host's loop only.
    running: set[asyncio.Task[Any]] = set()

    def start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if context.cancelled:
            raise asyncio.CancelledError("the attempt was cancelled")
        try:
            request = _call.encode_call(plan.task, args, kwargs, plan.group)
        except Exception as error:  # noqa: BLE001 a failure is a result
            started.append(error)
            return
        work = _gated(gate, lambda: _call.submit(context, request), running)
        started.append(asyncio.run_coroutine_threadsafe(work, context.loop))

    try:
        while True:
            _fill(started, plan, start)
            if not started:
                return
            first = started.popleft()
            try:
                if isinstance(first, Exception):
                    raise first
                outcome = _call.wait_in_thread(context, first)
                result = _call.decode_outcome(plan.task, outcome)
            except Exception as error:  # noqa: BLE001 a failure is a result
                result = plan.outcome(error)
            yield result
    finally:
        if started and not context.cancelled and not _call.on_host_loop(context):
            _call.wait_for(context, cancel(running))
        for future in started:
            if not isinstance(future, Exception):
                future.cancel()


async def _aiter(plan: MapPlan) -> AsyncIterator[Any]:
    """Keep calls in flight as tasks of the running loop, and await each in turn."""
    started: collections.deque[asyncio.Task[Any]] = collections.deque()
    gate = asyncio.Semaphore(plan.running_max)
    # The group must hold for the calls alone: whoever consumes this generator runs in the same
    # context between two items.
    grouped = contextvars.copy_context()
    context = current.get()
    if context is not None:
        grouped.run(enter_group, context, plan.group)

    def start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        work = _gated(gate, lambda: plan.task.aio(*args, **kwargs))
        started.append(asyncio.get_running_loop().create_task(work, context=grouped.copy()))

    try:
        while True:
            _fill(started, plan, start)
            if not started:
                return
            try:
                result = await started[0]
            except Exception as error:  # noqa: BLE001 a failure is a result
                result = plan.outcome(error)
            started.popleft()
            yield result
    finally:
        await cancel(started)


def _fill(
    started: collections.deque[Any],
    plan: MapPlan,
    start: Callable[[tuple[Any, ...], dict[str, Any]], None],
) -> None:
    while len(started) < plan.ahead_max:
        following = next(plan.calls, None)
        if following is None:
            return
        start(*following)


async def _gated(
    gate: asyncio.Semaphore,
    work: Callable[[], Coroutine[Any, Any, R]],
    running: set[asyncio.Task[Any]] | None = None,
) -> R:
    """Do `work` when there is room; until it is over the task stands in `running`."""
    here = asyncio.current_task()
    if running is not None and here is not None:
        running.add(here)
        here.add_done_callback(running.discard)
    async with gate:
        return await work()


#: Called as `map(task, items)` or `map.aio(task, items)`.
map: Final = Mapper()  # noqa: A001 Flyte's name, used as `millstream.map`
