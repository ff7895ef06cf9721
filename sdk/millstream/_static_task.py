"""Tasks whose body is run once, to make a plan that the leader walks.

Called in a run, or as the root of one, such a task is a graph: no process stands for it. Where
only its name is known (a trigger, a deployed task), it is dispatched like any other, and calls
its own plan from there.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

import msgspec

from millstream import _call
from millstream._cache import cache_key, hash_of_inputs
from millstream._call import Request
from millstream._context import ActionContext, current
from millstream._documentation import Documentation
from millstream._group import group_here
from millstream._plan import Plan, plan_of
from millstream._plan_wire import GraphCall
from millstream._settings import TaskSettings
from millstream._task import AsyncTask, SyncTask, Task
from millstream._values_sink import Sink
from millstream._values_wire import hash_bytes
from millstream_events.values import Policy

if TYPE_CHECKING:
    from millstream._environment import TaskEnvironment

P = ParamSpec("P")
R = TypeVar("R")

#: Settings of a task that belong to its attempts, of which a static one has none.
_OF_ATTEMPTS = (
    "retries", "resources", "env_vars", "secrets", "interruptible", "pool", "report",
    "pod_template", "service_account", "entrypoint", "produces_artifacts",
)  # fmt: skip


def check_static(name: str, settings: Mapping[str, object]) -> None:
    """Refuse settings that a static task could not keep.

    Raises:
        ValueError: One is there; the text says where it belongs.
    """
    for setting in _OF_ATTEMPTS:
        if settings.get(setting):
            raise ValueError(
                f"the static task {name} runs in no process, so {setting} would do nothing; set "
                f"it on the tasks that it calls"
            )
    timeout: Any = settings.get("timeout")
    if timeout and getattr(timeout, "max_runtime", timeout):
        raise ValueError(
            f"the static task {name} runs in no process: limit it by "
            f"timeout=Timeout(deadline=...), or set timeouts on the tasks that it calls"
        )
    if settings.get("idempotent") is False:
        raise ValueError(f"the static task {name} runs nothing: set idempotent on what it calls")


def graph_request(
    task: Task[..., Any],
    plan: Plan,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    group: str,
) -> Request:
    """Return the call of a plan.

    Raises:
        PlanInputError: An input was fixed when the plan was made.
        InlineIOMaxBytesBreached: The inputs are larger than the task allows.
        RuntimeDataValidationError: An argument does not fit.
    """
    sink = Sink()
    encoded = plan.encode_inputs(tuple(args), dict(kwargs), sink)
    codec, content = ("", None) if encoded is None else encoded
    what = f"the inputs of {task.name}"
    _call.check_inline_bytes(content, task.max_inline_io_bytes, what, aside_bytes=sink.aside_bytes)
    # What the plan calls is part of what the call is: changed code makes it another one.
    hash_ = hash_bytes([hash_of_inputs(task, content), plan.digest])
    key, mode = cache_key(task, hash_)
    sink.works.extend(plan.traced.sink.works)
    return Request(
        task, task.ref(), content, codec, hash_, group, graph_policy(task), key, mode, sink,
        graph=GraphCall(plan),
    )  # fmt: skip


def graph_policy(task: Task[..., Any]) -> Policy:
    """Return what of a task's policy is for its graph; the rest is for attempts."""
    own = task.policy()
    return msgspec.structs.replace(
        Policy(),
        deadline_ms=own.deadline_ms,
        queued_max_ms=own.queued_max_ms,
        queue=own.queue,
        cache_max_age_ms=own.cache_max_age_ms,
        worker=own.worker,
    )


class StaticTask(Task[P, R]):
    """What both kinds of static task have."""

    is_static = True
    #: The plan of a task that is none by itself; None: it is traced when it is first needed.
    fixed: Plan | None = None

    def plan(self, **given: Any) -> Plan:
        """Return the task's plan; parameters that are given are fixed in it.

        Raises:
            PlanError: Or one of its subclasses: no plan can be made of the body.
        """
        if self.fixed is not None and not given:
            return self.fixed
        return _plan_for(self, given) if given else self._traced

    @functools.cached_property
    def _traced(self) -> Plan:
        return plan_of(self, {})

    def request(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], context: ActionContext
    ) -> Request:
        """Return a call of the task made by the current code of `context`."""
        return graph_request(self, self.plan(), args, kwargs, group_here(context))

    def with_settings(self, settings: TaskSettings) -> Self:
        """Return the same task with these settings in place of its own."""
        made = super().with_settings(settings)
        if self.fixed is not None:
            made.fixed = self.fixed
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled; the plan is traced again where it is needed."""
        state = super().__getstate__()
        state.pop("_traced", None)
        return state


class StaticAsyncTask(StaticTask[P, R], AsyncTask[P, R]):
    """A static task whose function is `async def`."""

    @property
    def body(self) -> Callable[..., Any]:
        """What an attempt runs that was dispatched by the task's name: a call of its plan."""
        return self._call_plan

    async def _call_plan(self, *args: Any, **kwargs: Any) -> R:
        context = current.get()
        assert context is not None, self.name
        request = self.request(args, kwargs, context)
        result = await _call.on_host(context, _call.submit(context, request))
        return cast("R", _call.decode_outcome(self, result))


class StaticSyncTask(StaticTask[P, R], SyncTask[P, R]):
    """A static task whose function is a plain `def`."""

    @property
    def body(self) -> Callable[..., Any]:
        """What an attempt runs that was dispatched by the task's name: a call of its plan."""
        return self._call_plan

    def _call_plan(self, *args: Any, **kwargs: Any) -> R:
        context = current.get()
        assert context is not None, self.name
        request = self.request(args, kwargs, context)
        result = _call.wait_for(context, _call.submit(context, request))
        return cast("R", _call.decode_outcome(self, result))


def static_task(
    function: Callable[..., Any],
    environment: "TaskEnvironment",
    settings: TaskSettings,
    docs: Documentation | None,
) -> StaticTask[..., Any]:
    """Return the static task of a function, of the kind that the function is."""
    if inspect.iscoroutinefunction(function):
        return StaticAsyncTask[..., Any](function, environment, settings, docs=docs)
    return StaticSyncTask[..., Any](function, environment, settings, docs=docs)


def plan(task: Task[..., Any], /, **given: Any) -> Plan:
    """Return the plan of a task, static or not: its function is run once, and calls nothing.

    Args:
        task: What is traced.
        given: Values of parameters, fixed in the plan, so that the code may look at them; the
            others are inputs of the plan.

    Raises:
        StaticControlFlowError: The code asks for a value that is there only when the plan is
            walked; the text names the line.
        PlanTypeError, PlanInputError, PlanTooLargeError, PlanCycleError: as they say.
        RuntimeDataValidationError: A constant does not fit its parameter.
        TypeError: It is no task.
    """
    what = cast("object", task)
    if not isinstance(what, Task):
        raise TypeError(f"plan() takes a task, made with `@env.task`, not {what!r}")
    return task.plan(**given) if isinstance(task, StaticTask) else _plan_for(task, given)


def _plan_for(task: Task[..., Any], given: Mapping[str, Any]) -> Plan:
    """Return a plan, and make its task one that runs it."""
    made = plan_of(task, given)
    if not isinstance(task, StaticTask) or given:
        static = static_task(task.func, task.environment, task.settings, task.docs)
        static.fixed = made
        made.task = static
    return made
