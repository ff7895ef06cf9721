"""A function that can be called as an action of a run.

Outside a run a call is a plain Python call. Inside a task it becomes an action of its own, also
when it ends up in the same process: arguments and results travel by value, and the outcome is
recorded before the caller sees it.
"""

import asyncio
import dataclasses
import functools
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, cast

from millstream import _call
from millstream._cache import Cache, CacheRequest, cache_from_request
from millstream._group import group_here
from millstream._identity import task_identity
from millstream._interface import Interface
from millstream._pickling import MAIN_MODULES
from millstream._pool import Pool
from millstream._resources import Resources
from millstream._retry import RetryRequest, TimeoutRequest, retry_of, timeout_of
from millstream._settings import TaskSettings
from millstream._unsupported import check_settings
from millstream.errors import SyncTaskCallInAsyncContextError
from millstream_events.values import Policy, TaskRef

if TYPE_CHECKING:
    from millstream._environment import TaskEnvironment

P = ParamSpec("P")
R = TypeVar("R")

_FIXED = ("name", "image", "docs", "interface")


class Task(Generic[P, R]):
    """A function of an environment; `R` is what awaiting it, or its plain call, gives.

    Made by `TaskEnvironment.task`. Never changes: `override` returns another task.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        environment: "TaskEnvironment",
        settings: TaskSettings,
        *,
        docs: str = "",
    ) -> None:
        self.func = function
        self.environment = environment
        self.settings = settings
        #: `<environment>.<function>`: the name that ids, logs and people use.
        self.name = f"{environment.name}.{function.__name__}"
        self.docs = docs or (function.__doc__ or "")
        # Assigned one by one: a function's own attributes must not land among the task's.
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    @property
    def interface(self) -> Interface:
        """Parameters and result, and how they become bytes."""
        return self._interface

    @property
    def native_interface(self) -> Interface:
        """The same, under Flyte's name."""
        return self._interface

    @property
    def json_schema(self) -> dict[str, Any]:
        """The parameters as a JSON schema, for forms and for tools of language models."""
        return self._interface.json_schema

    @property
    def short_name(self) -> str:
        """Name shown in lists; the function's own unless another was given."""
        return self.settings.short_name

    @property
    def cache(self) -> Cache:
        """When an earlier result may stand in for a call."""
        return self.settings.cache

    @property
    def max_inline_io_bytes(self) -> int:
        """Most that the inputs, or the outputs, of one call may take, encoded."""
        return self.settings.max_inline_io_bytes

    def ref(self) -> TaskRef:
        """Return how a worker finds the function again."""
        return self._ref

    def policy(self) -> Policy:
        """Return how the scheduler is to treat a call."""
        return self._policy

    @property
    def by_name(self) -> bool:
        """Whether module and name lead to this task in any process that has the code."""
        return self._by_name

    @functools.cached_property
    def _interface(self) -> Interface:
        return Interface.of(self.func)

    @functools.cached_property
    def _by_name(self) -> bool:
        module = sys.modules.get(self.func.__module__)
        found = _find(self.func.__module__, self.func.__qualname__)
        has_file = getattr(module, "__file__", None) is not None
        return has_file and isinstance(found, Task) and found.func is self.func

    @functools.cached_property
    def _ref(self) -> TaskRef:
        identity = task_identity(self.name, self.interface, self.func)
        module = self.func.__module__
        main = module in MAIN_MODULES
        return TaskRef(self.name, "__main__" if main else module, self.func.__qualname__, identity)

    @functools.cached_property
    def _policy(self) -> Policy:
        return self.settings.policy(is_async=self.interface.is_async)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the task from async code, whether its function is sync or async.

        Raises:
            TraceDoesNotAllowNestedTasksError: Inside a `trace`; use `forward` there.
        """
        context = _call.context_for_call(self.name)
        if context is None:
            outcome = self.func(*args, **kwargs)
            return cast("R", await outcome if asyncio.iscoroutine(outcome) else outcome)
        request = _call.encode_call(self, args, kwargs, group_here(context))
        result = await _call.on_host(context, _call.submit(context, request))
        return cast("R", _call.decode_outcome(self, result))

    def override(
        self,
        *,
        short_name: str | None = None,
        resources: Resources | None = None,
        cache: CacheRequest | None = None,
        retries: RetryRequest | None = None,
        timeout: TimeoutRequest | None = None,
        env_vars: Mapping[str, str] | None = None,
        queue: str | None = None,
        interruptible: bool | None = None,
        max_inline_io_bytes: int | None = None,
        idempotent: bool | None = None,
        entrypoint: bool | None = None,
        pool: Pool | str | None = None,
        **others: object,
    ) -> Self:
        """Return the same task with other settings; None keeps what it has.

        `retries=0`, `timeout=0` and `queue=""` count: they take the setting away.

        Raises:
            ValueError: Name, image, docs or interface: they belong to the task.
            NotYetSupportedError: A setting of Flyte that would change results.
            TypeError: No such setting.
        """
        for name in _FIXED:
            if name in others:
                raise ValueError(f"{name} cannot be overridden: it belongs to the task")
        check_others(others)
        check_settings({"interruptible": interruptible})
        changes: dict[str, Any] = {
            "short_name": short_name,
            "resources": resources,
            "cache": None if cache is None else cache_from_request(cache),
            "retries": None if retries is None else retry_of(retries),
            "timeout": None if timeout is None else timeout_of(timeout),
            "env_vars": None if env_vars is None else dict(env_vars),
            "queue": queue,
            "interruptible": interruptible,
            "max_inline_io_bytes": max_inline_io_bytes,
            "idempotent": idempotent,
            "entrypoint": entrypoint,
            "pool": pool,
        }
        kept = {name: value for name, value in changes.items() if value is not None}
        return self.with_settings(dataclasses.replace(self.settings, **kept))

    def with_settings(self, settings: TaskSettings) -> Self:
        """Return the same task with these settings in place of its own."""
        return type(self)(self.func, self.environment, settings, docs=self.docs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # By name where the name leads back here: the other side then has one task, not copies.
        if self.func.__module__ not in MAIN_MODULES:
            found = _find(self.func.__module__, self.func.__qualname__)
            if isinstance(found, Task) and found.func is self.func:
                where = (self.func.__module__, self.func.__qualname__)
                return _task_at, (*where, self.settings)
        return super().__reduce_ex__(protocol)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: what follows from the function is worked out again."""
        derived = ("_interface", "_by_name", "_ref", "_policy", "__wrapped__")
        return {name: value for name, value in vars(self).items() if name not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what `__getstate__` gave."""
        self.__dict__.update(state, __wrapped__=state["func"])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class AsyncTask(Task[P, R]):
    """A task whose function is `async def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return a coroutine that calls the task; nothing happens before it is awaited.

        Raises:
            TraceDoesNotAllowNestedTasksError: Inside a `trace`; use `forward` there.
        """
        if _call.context_for_call(self.name) is None:
            return self.forward(*args, **kwargs)
        return self.aio(*args, **kwargs)

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the function itself, without an action."""
        return cast("Coroutine[Any, Any, R]", self.func(*args, **kwargs))


class SyncTask(Task[P, R]):
    """A task whose function is a plain `def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the task and wait for its result.

        Raises:
            SyncTaskCallInAsyncContextError: From async code inside a run; await `aio` there.
            TraceDoesNotAllowNestedTasksError: Inside a `trace`; use `forward` there.
        """
        context = _call.context_for_call(self.name)
        if context is None:
            return self.forward(*args, **kwargs)
        if _call.in_event_loop():
            raise SyncTaskCallInAsyncContextError(
                f"the sync task {self.name} was called plainly from async code, which would block "
                f"the event loop; write `await {self.func.__name__}.aio(...)`"
            )
        request = _call.encode_call(self, args, kwargs, group_here(context))
        result = _call.wait_for(context, _call.submit(context, request))
        return cast("R", _call.decode_outcome(self, result))

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, without an action."""
        return cast("R", self.func(*args, **kwargs))


#: Settings that `override` and `env.task` know from Flyte and do not act on.
_FLYTE_SETTINGS = (
    "pod_template",
    "report",
    "service_account",
    "triggers",
    "links",
    "task_resolver",
    "produces_artifacts",
    "secrets",
    "reusable",
    "plugin_config",
)


def check_others(others: Mapping[str, object]) -> None:
    """Warn about or refuse settings that only Flyte has.

    Raises:
        NotYetSupportedError: One would change results.
        TypeError: Neither Flyte nor Millstream has such a setting.
    """
    for name in others:
        if name not in _FLYTE_SETTINGS:
            raise TypeError(f"a task has no setting {name!r}")
    check_settings(others)


def _find(module: str, qualname: str) -> object:
    found: object = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _task_at(module: str, qualname: str, settings: TaskSettings) -> Task[..., Any]:
    """Return the task of that name, imported if need be."""
    __import__(module)
    found = _find(module, qualname)
    if not isinstance(found, Task):
        raise LookupError(f"{module} has no task {qualname}")
    task = cast("Task[..., Any]", found)
    return task if task.settings == settings else task.with_settings(settings)
