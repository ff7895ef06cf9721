"""A function that can be called as an action of a run.

Outside a run a call is a plain Python call. Inside a task it becomes an action of its own, also
when it ends up in the same process: arguments and results travel by value, and the outcome is
recorded before the caller sees it.
"""

import asyncio
import dataclasses
import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Self, TypeVar, cast

from millstream import _call
from millstream._cache import (
    Cache,
    CacheRequest,
    VersionParameters,
    cache_from_request,
    get_default_policies,
)
from millstream._call import Request
from millstream._context import ActionContext
from millstream._documentation import Documentation
from millstream._failures import as_user_error
from millstream._group import group_here
from millstream._identity import body_hash, remember_body, task_identity
from millstream._image import Image
from millstream._image_use import Plan, plan_for
from millstream._link import Link
from millstream._native import TaskInterface
from millstream._nearest import unknown_name
from millstream._overrides import checked_overrides
from millstream._pickled_version import pickled_version
from millstream._pickling import MAIN_MODULES
from millstream._planning import planning
from millstream._pool import Pool
from millstream._reloads import follow_reloads
from millstream._resources import Resources
from millstream._retry import RetryRequest, RetryStrategy, TimeoutRequest, retry_of
from millstream._reuse import ReusePolicy, check_reuse
from millstream._secret import SecretRequest
from millstream._settings import TaskSettings
from millstream.errors import SyncTaskCallInAsyncContextError
from millstream_events.values import Policy, TaskRef

if TYPE_CHECKING:
    from millstream._environment import TaskEnvironment

P = ParamSpec("P")
R = TypeVar("R")

#: With a reuse policy these are its environment's.
_OF_REUSE = ("resources", "env_vars", "secrets", "service_account")
#: What errors call them, where it is not their own name.
_SHORT = {"env_vars": "env"}


class Task(Generic[P, R]):
    """A function of an environment; `R` is what awaiting it, or its plain call, gives.

    Made by `TaskEnvironment.task`. Never changes: `override` returns another task.
    """

    #: What kind of task this is, in Flyte's word.
    task_type = "python"
    task_type_version = 0
    debuggable = True
    plugin_config = None
    task_resolver = None
    #: Its calls are graphs, walked by the leader.
    is_static = False

    def __init__(
        self,
        function: Callable[..., Any],
        environment: "TaskEnvironment",
        settings: TaskSettings,
        *,
        docs: Documentation | None = None,
    ) -> None:
        follow_reloads(Task)
        self.func = function
        self.environment = environment
        self.settings = settings
        #: `<environment>.<function>`: the name that ids, logs and people use.
        self.name = f"{environment.name}.{function.__name__}"
        #: Given to the decorator; the docstring is in `interface.docstring`.
        self.docs = docs
        # Assigned one by one: a function's own attributes must not land among the task's.
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    # -------------------------------------------------------------- what programs read

    @property
    def interface(self) -> TaskInterface:
        """Parameters and result, and how they become bytes."""
        return self._interface

    @property
    def native_interface(self) -> TaskInterface:
        """The same as `interface`."""
        return self._interface

    @property
    def json_schema(self) -> dict[str, Any]:
        """JSON schema of the inputs."""
        return self._interface.json_schema

    @property
    def source_file(self) -> str | None:
        """File that the function is written in."""
        code = getattr(inspect.unwrap(self.func), "__code__", None)
        return None if code is None else code.co_filename

    @property
    def parent_env(self) -> "weakref.ref[TaskEnvironment] | None":
        """The environment, as a weak reference."""
        return weakref.ref(self.environment)

    @property
    def parent_env_name(self) -> str:
        """Name of the environment."""
        return self.environment.name

    @property
    def image(self) -> Image | None:
        """Image of the environment; `"auto"` and the name of one as `Image`."""
        image = self.environment.image
        if image == "auto":
            return Image.from_debian_base()
        return Image.from_base(image) if isinstance(image, str) else image

    @property
    def short_name(self) -> str:
        """Name shown in lists; the function's own unless another was given."""
        return self.settings.short_name

    @property
    def cache(self) -> Cache:
        """When an earlier result may stand in for a call."""
        return self.settings.cache

    @property
    def retries(self) -> RetryStrategy:
        """How many attempts may follow the first, and how they are paced."""
        return self.settings.retries

    @property
    def cache_version(self) -> str:
        """Version that results are kept under.

        Raises:
            ValueError: A cache policy failed.
        """
        return self._cache_version

    @property
    def max_inline_io_bytes(self) -> int:
        """Most that the inputs, or the outputs, of one call may take, encoded."""
        return self.settings.max_inline_io_bytes

    @property
    def report(self) -> bool:
        """Whether the report of an attempt is kept when it ends."""
        return self.settings.report

    @property
    def links(self) -> tuple[Link, ...]:
        """Places elsewhere that are shown with each action of the task."""
        return self.settings.links

    @property
    def resources(self) -> Resources | None:
        """What each attempt asks of its machine; None: nothing."""
        resources = self.settings.resources
        return None if resources == Resources() else resources

    @property
    def env_vars(self) -> dict[str, str] | None:
        """Environment variables of each attempt; None: none."""
        return dict(self.settings.env_vars) or None

    @property
    def queue(self) -> str | None:
        """Name of the queue; None: the default one."""
        return self.settings.queue or None

    def __getattr__(self, name: str) -> Any:
        # The settings that need no other form than they are kept in.
        if name in _SHOWN:
            return getattr(self.settings, name)
        # Private names are probed for by pickle and the like, often and for nothing.
        known = () if name.startswith("_") else (*dir(type(self)), *vars(self), *_SHOWN)
        raise AttributeError(unknown_name("a task has no attribute", name, known))

    # -------------------------------------------------------------- what calls need

    def ref(self) -> TaskRef:
        """Return how a worker finds the function again."""
        return self._ref

    def policy(self) -> Policy:
        """Return how the scheduler is to treat a call."""
        return self._policy

    def is_called_in_run(self) -> bool:
        """Say whether a call made here is an action of a run.

        Raises:
            TraceDoesNotAllowNestedTasksError: Inside a `trace`; use `forward` there.
        """
        return _call.context_for_call(self.name) is not None

    @property
    def by_name(self) -> bool:
        """Whether module and name lead to this task in any process that has the code."""
        return self._by_name

    @functools.cached_property
    def _interface(self) -> TaskInterface:
        return TaskInterface(self.func)

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
    def _cache_version(self) -> str:
        cache = self.cache
        version = cache.get_version(VersionParameters(self.func, self.environment.image))
        # By value travels more than the body; but what a user has chosen is what counts.
        chosen = cache.version_override is not None or cache.policies != get_default_policies()
        return version if self.by_name or chosen else version + pickled_version(self.func)

    @functools.cached_property
    def _policy(self) -> Policy:
        return self.settings.policy(
            is_async=self.interface.is_async, environment=self.environment.name
        )

    def image_plan(self) -> Plan | None:
        """Return how the task's environment is built; None: its agent's own will do.

        Raises:
            ImageBuildError: A file of the image is not there, or hosts cannot build it.
        """
        return plan_for(self.environment)

    @property
    def body(self) -> Callable[..., Any]:
        """What an attempt of the task runs."""
        return self.func

    def request(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], context: ActionContext
    ) -> Request:
        """Return a call of the task made by the current code of `context`, its inputs encoded."""
        return _call.encode_call(self, args, kwargs, group_here(context))

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the task from async code, whether its function is sync or async.

        Raises:
            TraceDoesNotAllowNestedTasksError: Inside a `trace`; use `forward` there.
        """
        if (tracing := planning.get()) is not None:
            return cast("R", await tracing.awaited(self, args, kwargs))
        context = _call.context_for_call(self.name)
        if context is None:
            outcome = self.func(*args, **kwargs)
            return cast("R", await outcome if asyncio.iscoroutine(outcome) else outcome)
        request = self.request(args, kwargs, context)
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
        reusable: "ReusePolicy | Literal['off'] | None" = None,
        env_vars: Mapping[str, str] | None = None,
        secrets: SecretRequest | None = None,
        queue: str | None = None,
        max_inline_io_bytes: int | None = None,
        idempotent: bool | None = None,
        pool: Pool | str | None = None,
        **others: Any,
    ) -> Self:
        """Return the same task with other settings; None keeps what it has.

        All settings are those of `TaskEnvironment.task`; `env_vars` stand instead of the task's.
        `retries=0`, `timeout=0`, `queue=""`, `env_vars={}` and `interruptible=False` count: they
        take the setting away, which Flyte cannot, and so does `reusable="off"`. `others` are
        `entrypoint`, `interruptible`, `links`, `pod_template`, `produces_artifacts`, `report`,
        `service_account` and `triggers`.

        Raises:
            ValueError: Name, image, docs or interface: they belong to the task. Or a setting of
                a reuse policy's environment.
            NotYetSupportedError: A setting of Flyte that would change results.
            TypeError: No such setting.
        """
        given = {
            "short_name": short_name or None,
            "resources": resources,
            "cache": None if cache is None else cache_from_request(cache),
            "retries": None if retries is None else retry_of(retries),
            "timeout": timeout,
            "env_vars": None if env_vars is None else dict(env_vars),
            "reusable": reusable,
            "secrets": secrets,
            "queue": queue,
            "max_inline_io_bytes": max_inline_io_bytes,
            "idempotent": idempotent,
            "pool": pool,
            **checked_overrides(others),
        }
        kept = {name: value for name, value in given.items() if value is not None}
        policy: Any = kept.get("reusable", self.settings.reusable)
        if policy == "off":
            policy = kept["reusable"] = None
        check_reuse(policy, is_async=self.interface.is_async)
        for name in _OF_REUSE:
            if policy is not None and name in kept:
                raise ValueError(
                    f"Cannot override {_SHORT.get(name, name)} when reusable is set: the "
                    f"environment's workers are running with its own. (set reusable='off' in the "
                    f"same call)"
                )
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
        derived = ("_interface", "_by_name", "_ref", "_policy", "_cache_version", "__wrapped__")
        kept = {name: value for name, value in vars(self).items() if name not in derived}
        return {**kept, "_body": body_hash(self.func)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what `__getstate__` gave."""
        kept = dict(state)
        remember_body(kept["func"], kept.pop("_body"))
        self.__dict__.update(kept, __wrapped__=kept["func"])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class AsyncTask(Task[P, R]):
    """A task whose function is `async def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return a coroutine that calls the task; nothing happens before it is awaited.

        Raises:
            TraceDoesNotAllowNestedTasksError: Inside a `trace`; use `forward` there.
        """
        if (tracing := planning.get()) is not None:
            return cast("Coroutine[Any, Any, R]", tracing.call(self, args, kwargs))
        if _call.context_for_call(self.name) is not None:
            return self.aio(*args, **kwargs)
        try:
            return self.forward(*args, **kwargs)
        except TypeError as error:  # Arguments that do not fit; the function runs later.
            raise as_user_error(error) from error

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
        if (tracing := planning.get()) is not None:
            return cast("R", tracing.call(self, args, kwargs))
        context = _call.context_for_call(self.name)
        if context is None:
            try:
                return self.forward(*args, **kwargs)
            except Exception as error:
                raised = as_user_error(error)
                if raised is error:
                    raise
                raise raised from error
        if _call.in_event_loop():
            raise SyncTaskCallInAsyncContextError(
                f"the sync task {self.name} was called plainly from async code, which would block "
                f"the event loop; write `await {self.func.__name__}.aio(...)`"
            )
        request = self.request(args, kwargs, context)
        result = _call.wait_for(context, _call.submit(context, request))
        return cast("R", _call.decode_outcome(self, result))

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, without an action."""
        return cast("R", self.func(*args, **kwargs))


#: Flyte's names: every task is one.
TaskTemplate = Task
AsyncFunctionTaskTemplate = Task

#: Settings that a task shows as they are kept.
_SHOWN = frozenset(
    {
        "entrypoint", "idempotent", "interruptible", "pod_template", "pool",
        "produces_artifacts", "reusable", "secrets", "service_account", "timeout",
        "triggers",
    }
)  # fmt: skip


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
