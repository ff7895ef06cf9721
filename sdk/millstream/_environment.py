"""Where tasks are declared."""

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast, overload

from millstream._cache import Cache, CacheRequest, cache_from_request
from millstream._documentation import Documentation
from millstream._environment_fields import Environment
from millstream._image import Image
from millstream._image_use import know
from millstream._link import Link, checked_links
from millstream._nearest import unknown_name
from millstream._overrides import UNEXPECTED, check_resolver
from millstream._pod import PodTemplate
from millstream._pool import Pool
from millstream._resources import Resources
from millstream._retry import RetryRequest, TimeoutRequest, retry_of
from millstream._reuse import ReusePolicy, check_reuse
from millstream._secret import SecretRequest
from millstream._settings import INLINE_IO_BYTES_MAX, TaskSettings
from millstream._shown import shown
from millstream._static_task import check_static, static_task
from millstream._stream import StreamTask, gathering
from millstream._task import AsyncTask, SyncTask, Task
from millstream._trigger import checked_triggers
from millstream._unsupported import NotYetSupportedError, check_settings

P = ParamSpec("P")
R = TypeVar("R")

_UNEXPECTED: Final = "TaskEnvironment() got an unexpected keyword argument"
#: Parameters of `TaskEnvironment`, and those of `task`.
_OF_ENVIRONMENT: Final = (
    "cache", "depends_on", "description", "env_vars", "image", "include", "interruptible", "name",
    "plugin_config", "pod_template", "pool", "queue", "resources", "reusable", "secrets",
    "service_account",
)  # fmt: skip
_OF_TASK: Final = (
    "cache", "docs", "entrypoint", "env_vars", "idempotent", "interruptible", "links",
    "max_inline_io_bytes", "pod_template", "pool", "produces_artifacts", "queue", "report",
    "resources", "retries", "secrets", "service_account", "short_name", "static", "task_resolver",
    "timeout", "triggers",
)  # fmt: skip


class TaskDecorator(Protocol):
    """What `env.task(...)` with arguments returns."""

    # A special kind of function fits the last overload too: the first one that fits is meant.
    @overload
    def __call__(  # type: ignore[overload-overlap]  # see above
        self, function: Callable[P, AsyncIterator[R] | Iterator[R]], /
    ) -> StreamTask[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # see above
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...


@shown
@dataclass(init=False, repr=False)
class TaskEnvironment(Environment):
    """Settings that a group of tasks shares: where they run, with what, and cached or not.

    A setting of the environment gives way to one of the decorator, and that to `override`.
    Retries and timeouts belong to tasks alone.

    Args:
        name: Lower-case words of letters and digits, joined by `-` or `_`.
        image: Python environment of the tasks: an `Image`; `"auto"`: their agent's own.
        resources: What each attempt asks of its machine.
        env_vars: Environment variables of each attempt.
        secrets: Names of secrets, or `Secret`; given to the attempt's own process alone.
        cache: `"auto"`, `"override"`, `"disable"` or a `Cache`.
        reusable: Workers that stay, with their state, for the tasks of this environment.
        queue: Name of the queue; None: the default one.
        pool: Pools that may run the tasks; a bare string is a pool's name.
        interruptible: Nodes that may vanish are welcome, but for the last attempt.
        pod_template: Known from Flyte.
        service_account: Known from Flyte.
        plugin_config: Known from Flyte; refused.
        depends_on: Environments to deploy together with this one; not needed for calls.
        description: For people; cut at 255 characters.
        include: Known from Flyte: files to pack beside the code.

    Raises:
        ValueError: A bad name or value, or a setting that would change results.
        TypeError: A setting of the wrong kind, or one that nobody knows.
    """

    cache: CacheRequest
    reusable: ReusePolicy | None
    plugin_config: object
    queue: str | None
    pool: Pool | str | None

    def __init__(
        self,
        name: str,
        depends_on: Sequence[Environment] = (),
        pod_template: PodTemplate | str | None = None,
        description: str | None = None,
        secrets: SecretRequest | None = None,
        env_vars: Mapping[str, str] | None = None,
        resources: Resources | None = None,
        interruptible: bool = False,
        image: Image | str | None = "auto",
        include: Sequence[str] = (),
        service_account: str | None = None,
        cache: CacheRequest = "disable",
        reusable: ReusePolicy | None = None,
        plugin_config: object = None,
        queue: str | None = None,
        pool: Pool | str | None = None,
        **unknown: object,
    ) -> None:
        for each in unknown:
            raise TypeError(unknown_name(_UNEXPECTED, each, _OF_ENVIRONMENT))
        # Set first: environments are compared as soon as they are known.
        self.cache = cache
        self.reusable = reusable
        self.plugin_config = plugin_config
        self.queue = queue
        self.pool = pool
        super().__init__(
            name, depends_on, pod_template, description, secrets, env_vars, resources,
            interruptible, image, include, service_account,
        )  # fmt: skip
        if reusable is not None and plugin_config is not None:
            raise ValueError("Cannot set plugin_config when environment is reusable.")
        if reusable is not None and not isinstance(cast("object", reusable), ReusePolicy):
            raise TypeError(f"Expected reusable to be of type ReusePolicy, got {type(reusable)}")
        if cache and not isinstance(cast("object", cache), str | Cache):
            raise TypeError(f"Expected cache to be of type str or Cache, got {type(cache)}")
        check_settings({"plugin_config": plugin_config})
        self._tasks: dict[str, Task[..., Any]] = {}
        know(self)

    @property
    def tasks(self) -> dict[str, Task[..., Any]]:
        """The tasks declared so far, by full name."""
        return self._tasks

    @property
    def sandbox(self) -> Any:
        """Known from Flyte; refused.

        Raises:
            NotYetSupportedError: Always.
        """
        raise NotYetSupportedError(
            "env.sandbox", "no restricted interpreter is there; write the code as a task"
        )

    def clone_with(
        self,
        name: str,
        image: Image | str | None = None,
        resources: Resources | None = None,
        env_vars: Mapping[str, str] | None = None,
        secrets: SecretRequest | None = None,
        depends_on: Sequence[Environment] | None = None,
        description: str | None = None,
        interruptible: bool | None = None,
        include: Sequence[str] | None = None,
        service_account: str | None = None,
        **changes: Any,
    ) -> "TaskEnvironment":
        """Return a new environment without tasks, with this one's settings but for those given.

        None keeps a setting, except `reusable=None`, which takes it away.

        Raises:
            TypeError: An environment has no such setting.
        """
        settings: dict[str, Any] = {
            each: getattr(self, each) for each in _OF_ENVIRONMENT if each != "name"
        }
        unknown = [each for each in changes if each not in settings]
        if unknown:
            raise TypeError(f"Unexpected keyword arguments: {unknown}")
        named = {
            "image": image,
            "resources": resources,
            "env_vars": env_vars,
            "secrets": secrets,
            "depends_on": depends_on,
            "description": description,
            "interruptible": interruptible,
            "include": include,
            "service_account": service_account,
        }
        given: dict[str, Any] = {
            each: value
            for each, value in {**named, **changes}.items()
            if value is not None or (each == "reusable" and each in changes)
        }
        return TaskEnvironment(name, **{**settings, **given})

    @classmethod
    def from_task(
        cls, name: str, *tasks: Task[..., Any], depends_on: Sequence[Environment] | None = None
    ) -> "TaskEnvironment":
        """Return an environment of tasks that belong to none yet.

        Raises:
            ValueError: A task belongs to another environment, or the images differ.
        """
        if any(task.parent_env is not None and task.parent_env() is not None for task in tasks):
            raise ValueError(
                "Tasks cannot assigned to multiple environments. A task declared with "
                "`@env.task` stays in its own; name that one in `depends_on`"
            )
        images = {id(image): image for image in (task.environment.image for task in tasks)}
        if len(images) > 1:
            raise ValueError("Tasks must have the same image to be in the same environment.")
        environment = cls(
            name, image=next(iter(images.values()), "auto"), depends_on=depends_on or ()
        )
        for task in tasks:
            task.environment = environment
            environment._tasks[task.name] = task
        return environment

    @overload
    def task(  # type: ignore[overload-overlap]  # as in `TaskDecorator`
        self, function: Callable[P, AsyncIterator[R] | Iterator[R]], /
    ) -> StreamTask[P, R]: ...
    @overload
    def task(  # type: ignore[overload-overlap]  # as in `TaskDecorator`
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def task(
        self,
        *,
        short_name: str | None = None,
        cache: CacheRequest | None = None,
        retries: RetryRequest = 0,
        timeout: TimeoutRequest = 0,
        docs: Documentation | str | None = None,
        resources: Resources | None = None,
        env_vars: Mapping[str, str] | None = None,
        secrets: SecretRequest | None = None,
        queue: str | None = None,
        interruptible: bool | None = None,
        max_inline_io_bytes: int = INLINE_IO_BYTES_MAX,
        idempotent: bool = True,
        entrypoint: bool = False,
        pool: Pool | str | None = None,
        pod_template: object = None,
        report: bool = False,
        service_account: str | None = None,
        triggers: object = (),
        links: Sequence[Link] | Link = (),
        task_resolver: object = None,
        produces_artifacts: bool = False,
        static: bool = False,
    ) -> TaskDecorator: ...

    def task(  # type: ignore[misc]  # `settings` does take all that the third overload names
        self, function: Callable[..., Any] | None = None, /, **settings: Any
    ) -> Task[..., Any] | Callable[[Callable[..., Any]], Task[..., Any]]:
        """Make a task of a function; with arguments, or as a bare decorator.

        Args:
            function: Sync or async; one that yields gives its items when it has ended.
            settings: `short_name`, `cache`, `retries` (a count or `RetryStrategy`), `timeout`
                (seconds, `timedelta` or `Timeout`), `docs`, `resources`, `env_vars` (added to
                the environment's), `secrets` (in place of the environment's), `queue`, `pool`,
                `interruptible`, `max_inline_io_bytes`, `entrypoint`, `report` (keep the report
                of each attempt), `links` (places elsewhere that show it), and
                `idempotent=False` for what must never be started twice by the system, and
                `static=True` for a body that only calls tasks: it is run once, to make a plan
                that is walked without it. Known from Flyte: `pod_template`,
                `service_account`, `triggers`, `task_resolver`, `produces_artifacts`.

        Raises:
            TypeError: Not a function, or an unknown setting.
            ValueError: A value that cannot be used.
        """
        for each in settings:
            if each not in _OF_TASK:
                raise TypeError(unknown_name(f"task() {UNEXPECTED}", each, _OF_TASK))
        if self.reusable is not None:
            if settings.get("pod_template") is not None:
                raise ValueError("Cannot set pod_template when environment is reusable.")
            if settings.get("service_account") not in (None, self.service_account):
                raise ValueError("Cannot override service_account when environment is reusable.")
        if function is not None:
            return self._declare(function, settings)
        return lambda later: self._declare(later, settings)

    def _declare(self, function: Callable[..., Any], settings: Mapping[str, Any]) -> Task[..., Any]:
        what: object = function.__func__ if isinstance(function, staticmethod) else function
        if isinstance(what, Task):
            raise TypeError(f"{what.name} is a task already")
        if not isinstance(what, FunctionType):
            raise TypeError(f"a task is made of a function, not of {what!r}")
        is_async = inspect.iscoroutinefunction(what) or inspect.isasyncgenfunction(what)
        check_reuse(self.reusable, is_async=is_async)
        static = bool(settings.get("static"))
        if static:
            check_static(what.__name__, settings)
        chosen = {name: value for name, value in settings.items() if name != "static"}
        docs, merged = self._settings_of(what, **chosen)
        task: Task[..., Any]
        yields = inspect.isgeneratorfunction(what) or inspect.isasyncgenfunction(what)
        if static:
            if yields:
                raise ValueError(f"{what.__name__} yields; a static task gives its result at once")
            task = static_task(what, self, merged, docs)
        elif yields:
            task = StreamTask[..., Any](gathering(what), self, merged, docs=docs)
        elif inspect.iscoroutinefunction(what):
            task = AsyncTask(what, self, merged, docs=docs)
        else:
            task = SyncTask(what, self, merged, docs=docs)
        self._tasks[task.name] = task
        return task

    def _settings_of(
        self,
        function: FunctionType,
        *,
        short_name: str | None = None,
        cache: CacheRequest | None = None,
        retries: RetryRequest = 0,
        timeout: TimeoutRequest | None = 0,
        docs: Documentation | str | None = None,
        resources: Resources | None = None,
        env_vars: Mapping[str, str] | None = None,
        secrets: SecretRequest | None = None,
        queue: str | None = None,
        interruptible: bool | None = None,
        max_inline_io_bytes: int = INLINE_IO_BYTES_MAX,
        idempotent: bool = True,
        entrypoint: bool = False,
        pool: Pool | str | None = None,
        **known: Any,
    ) -> tuple[Documentation | None, TaskSettings]:
        """Fold the decorator's settings over the environment's."""
        check_resolver(known.pop("task_resolver", None))
        report, links = bool(known.pop("report", False)), checked_links(known.pop("links", ()))
        check_settings(known)
        merged = TaskSettings(
            short_name=short_name or function.__name__,
            cache=cache_from_request(self.cache if cache is None else cache),
            retries=retry_of(retries),
            timeout=timeout or 0,
            resources=resources or self.resources or Resources(),
            env_vars={**(self.env_vars or {}), **(env_vars or {})},
            queue=(self.queue or "") if queue is None else queue,
            pool=self.pool if pool is None else pool,
            interruptible=self.interruptible if interruptible is None else interruptible,
            max_inline_io_bytes=max_inline_io_bytes,
            idempotent=idempotent,
            entrypoint=entrypoint,
            secrets=self.secrets if secrets is None else secrets,
            service_account=known.get("service_account") or self.service_account,
            pod_template=known.get("pod_template") or self.pod_template,
            reusable=self.reusable,
            report=report,
            produces_artifacts=bool(known.get("produces_artifacts")),
            links=links,
            triggers=checked_triggers(known.get("triggers")),
        )
        return (Documentation(docs) if isinstance(docs, str) else docs), merged

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled with a task that travels by value: its siblings stay behind.

        What they close over is no business of its worker, and may be what cannot be pickled.
        """
        named = {name: task for name, task in self._tasks.items() if task.by_name}
        return {**vars(self), "_tasks": named}

    # `dataclass` takes the inherited one away, since it makes an `__eq__`.
    __hash__ = Environment.__hash__
