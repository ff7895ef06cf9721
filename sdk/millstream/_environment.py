"""Where tasks are declared."""

import inspect
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import FunctionType
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast, overload

from millstream._cache import CacheRequest, cache_from_request
from millstream._pool import Pool
from millstream._resources import Resources
from millstream._retry import RetryRequest, TimeoutRequest, retry_of, timeout_of
from millstream._settings import INLINE_IO_BYTES_MAX, TaskSettings
from millstream._task import AsyncTask, SyncTask, Task, check_others
from millstream._unsupported import check_settings
from millstream_events.names import NAME_CHARS_MAX

P = ParamSpec("P")
R = TypeVar("R")

_NAME: Final = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")
#: A longer description is cut, as in Flyte.
DESCRIPTION_CHARS_MAX: Final = 255


class TaskDecorator(Protocol):
    """What `env.task(...)` with arguments returns."""

    # An async function fits both overloads: the first one that fits is meant.
    @overload
    def __call__(  # type: ignore[overload-overlap]  # see above
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...


class TaskEnvironment:
    """Settings that a group of tasks shares: where they run, with what, and cached or not.

    A setting of the environment gives way to one of the decorator, and that to `override`.
    Retries and timeouts belong to tasks alone.

    Args:
        name: Lower-case words of letters and digits, joined by `-` or `_`.
        image: Known from Flyte; tasks run in the Python environment of their pool.
        resources: What each attempt asks of its machine.
        env_vars: Environment variables of each attempt.
        cache: `"auto"`, `"override"`, `"disable"` or a `Cache`.
        queue: Name of the queue; empty: the default one.
        pool: Pools that may run the tasks; a bare string is a pool's name.
        depends_on: Environments to deploy together with this one; not needed for calls.
        description: For people; cut at 255 characters.
        include: Known from Flyte; see `others`.
        others: Settings of Flyte that have no effect here (a warning says so once) or that
            would change results (refused).

    Raises:
        ValueError: A bad name or value, or a setting that would change results.
        TypeError: A setting that neither Flyte nor Millstream has.
    """

    def __init__(
        self,
        name: str,
        *,
        image: object = "auto",
        resources: Resources | None = None,
        env_vars: Mapping[str, str] | None = None,
        cache: CacheRequest = "disable",
        queue: str | None = None,
        interruptible: bool = False,
        depends_on: Sequence["TaskEnvironment"] = (),
        description: str | None = None,
        include: Sequence[str] = (),
        pool: Pool | str | None = None,
        **others: object,
    ) -> None:
        if len(name) > NAME_CHARS_MAX:
            raise ValueError(f"an environment name has at most {NAME_CHARS_MAX} characters")
        if _NAME.fullmatch(name) is None:
            raise ValueError(
                f"the environment name {name!r} is not made of lower-case letters and digits "
                f"joined by single '-' or '_'"
            )
        check_settings(
            {
                "image": image,
                "interruptible": interruptible,
                "include": tuple(include),
                **_of_resources(resources),
            }
        )
        check_others(others)
        self.name = name
        self.image = image
        self.resources = resources or Resources()
        self.env_vars = dict(env_vars or {})
        self.cache = cache_from_request(cache)
        self.queue = queue or ""
        self.interruptible = interruptible
        self.depends_on = list(depends_on)
        self.description = (description or "")[:DESCRIPTION_CHARS_MAX]
        self.include = tuple(include)
        self.pool = pool
        self._tasks: dict[str, Task[..., Any]] = {}

    @property
    def tasks(self) -> dict[str, Task[..., Any]]:
        """The tasks declared so far, by full name."""
        return self._tasks

    def add_dependency(self, *environments: "TaskEnvironment") -> None:
        """Deploy `environments` together with this one.

        Raises:
            ValueError: An environment cannot depend on itself.
        """
        if any(environment is self for environment in environments):
            raise ValueError(f"the environment {self.name} cannot depend on itself")
        for environment in environments:
            if environment not in self.depends_on:
                self.depends_on.append(environment)

    def clone_with(self, name: str, **changes: Any) -> "TaskEnvironment":
        """Return a new environment without tasks, with this one's settings but for `changes`."""
        settings: dict[str, Any] = {
            "image": self.image,
            "resources": self.resources,
            "env_vars": self.env_vars,
            "cache": self.cache,
            "queue": self.queue,
            "interruptible": self.interruptible,
            "depends_on": self.depends_on,
            "description": self.description,
            "include": self.include,
            "pool": self.pool,
        }
        given = {key: value for key, value in changes.items() if value is not None}
        return TaskEnvironment(name, **{**settings, **given})

    @classmethod
    def from_task(
        cls,
        name: str,
        *tasks: Task[..., Any],
        depends_on: Sequence["TaskEnvironment"] = (),
    ) -> "TaskEnvironment":
        """Return an environment that lists `tasks`, which keep their own names and settings.

        Raises:
            ValueError: The tasks' environments ask for different images.
        """
        images = {id(task.environment.image): task.environment.image for task in tasks}
        if len(images) > 1:
            raise ValueError("tasks with different images cannot share one environment")
        image = next(iter(images.values()), "auto")
        environment = cls(name, image=image, depends_on=depends_on)
        environment._tasks.update({task.name: task for task in tasks})
        return environment

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
        docs: object = None,
        resources: Resources | None = None,
        env_vars: Mapping[str, str] | None = None,
        queue: str | None = None,
        interruptible: bool | None = None,
        max_inline_io_bytes: int = INLINE_IO_BYTES_MAX,
        idempotent: bool = True,
        entrypoint: bool = False,
        pool: Pool | str | None = None,
        **others: object,
    ) -> TaskDecorator: ...

    def task(  # type: ignore[misc]  # `settings` does take all that the third overload names
        self, function: Callable[..., Any] | None = None, /, **settings: Any
    ) -> Task[..., Any] | Callable[[Callable[..., Any]], Task[..., Any]]:
        """Make a task of a function; with arguments, or as a bare decorator.

        Args:
            function: Module-level, sync or async, not a generator.
            settings: `short_name`, `cache`, `retries` (a count or `RetryStrategy`), `timeout`
                (seconds, `timedelta` or `Timeout`), `docs`, `resources`, `env_vars` (added to
                the environment's), `queue`, `pool`, `max_inline_io_bytes`, `entrypoint`, and
                `idempotent=False` for what must never be started twice by the system.

        Raises:
            TypeError: Not a function, or an unknown setting.
            ValueError: A value that cannot be used.
        """
        if function is not None:
            return self._declare(function, settings)
        return lambda later: self._declare(later, settings)

    def _declare(self, function: Callable[..., Any], settings: Mapping[str, Any]) -> Task[..., Any]:
        what: object = function
        if isinstance(what, Task):
            raise TypeError(f"{what.name} is a task already")
        if not isinstance(what, FunctionType):
            raise TypeError(f"a task is made of a function, not of {what!r}")
        if inspect.isgeneratorfunction(what) or inspect.isasyncgenfunction(what):
            raise TypeError(f"{what.__qualname__} is a generator; a task returns its result")
        docs, merged = self._settings_of(what, **settings)
        task: Task[..., Any]
        if inspect.iscoroutinefunction(what):
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
        timeout: TimeoutRequest = 0,
        docs: object = None,
        resources: Resources | None = None,
        env_vars: Mapping[str, str] | None = None,
        queue: str | None = None,
        interruptible: bool | None = None,
        max_inline_io_bytes: int = INLINE_IO_BYTES_MAX,
        idempotent: bool = True,
        entrypoint: bool = False,
        pool: Pool | str | None = None,
        **others: object,
    ) -> tuple[str, TaskSettings]:
        """Fold the decorator's settings over the environment's."""
        check_others(others)
        check_settings({"interruptible": interruptible, **_of_resources(resources)})
        merged = TaskSettings(
            short_name=short_name or function.__name__,
            cache=self.cache if cache is None else cache_from_request(cache),
            retries=retry_of(retries),
            timeout=timeout_of(timeout),
            resources=resources or self.resources,
            env_vars={**self.env_vars, **(env_vars or {})},
            queue=self.queue if queue is None else queue,
            pool=self.pool if pool is None else pool,
            interruptible=self.interruptible if interruptible is None else interruptible,
            max_inline_io_bytes=max_inline_io_bytes,
            idempotent=idempotent,
            entrypoint=entrypoint,
        )
        text = docs if isinstance(docs, str) else cast("str", getattr(docs, "description", ""))
        return text or "", merged

    def __repr__(self) -> str:
        return f"<TaskEnvironment {self.name}, {len(self._tasks)} tasks>"


def _of_resources(resources: Resources | None) -> dict[str, object]:
    """Return what of `resources` has no effect yet."""
    if resources is None:
        return {}
    return {"gpu": resources.gpu_count or None, "disk": resources.disk, "shm": resources.shm}
