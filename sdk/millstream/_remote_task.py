"""Tasks that were deployed: found by their name, called without their code.

Inside a task of a run a call becomes an ordinary child action, with the code that was deployed.
Which version `auto_version="latest"` meant is recorded, so an attempt that is repeated calls
the same one.
"""

import functools
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

from millstream import _call, _settling
from millstream._cache import Cache
from millstream._client import Client
from millstream._context import ActionContext, Call, current
from millstream._deployed import cache_of, schema_of_record, unpack_interface
from millstream._group import group_here
from millstream._init import installation
from millstream._link import Link
from millstream._native import TaskInterface
from millstream._reader import read_entries
from millstream._remote_shown import Shown
from millstream._resources import Resources
from millstream._retry import RetryRequest, TimeoutRequest, retry_of
from millstream._settings import TaskSettings
from millstream._syncify import background
from millstream._unsupported import check_settings
from millstream._values import hash_bytes
from millstream._views import View, show_time
from millstream.errors import (
    RemoteTaskNotFoundError,
    RemoteTaskUsageError,
    SyncTaskCallInAsyncContextError,
)
from millstream_events.codec import encode
from millstream_events.deployed import DeployedTask, TaskQuery, task_key
from millstream_events.errors import RejectedError
from millstream_events.fold import fold_entry
from millstream_events.ids import child_id
from millstream_events.state import DeployedVersion, ShardState
from millstream_events.subjects import SHARD_KEY
from millstream_events.values import WORKER_THREAD, Policy, TaskRef

AutoVersioning: TypeAlias = Literal["latest", "current"]
#: Digits of a bundle's digest that stand for the version of code that was not deployed.
VERSION_CHARS: Final = 16
#: Fields of a policy that queue, retries, timeout, resources and variables change.
_GROUPS: Final = (
    ("queue",),
    ("retries", "backoff"),
    ("runtime_max_ms", "queued_max_ms", "deadline_ms"),
    ("memory_max_bytes", "cpu_milli", "worker"),
    ("env_vars",),
)
#: Stands for the question in ids of its records.
_LOOKUP: Final = b"millstream.lookup"
_HASH_BYTES: Final = 16


async def read_deployed(client: Client) -> ShardState:
    """Return what the shard's own records say: deployed tasks and triggers, and no runs."""
    shard = ShardState(client.endpoint.shard_name)
    async for entry in read_entries(client.log, key=SHARD_KEY):
        fold_entry(shard, entry)
    return shard


class TaskDetails(Shown):
    """One version of a deployed task.

    `await details(x=1)` inside a task calls it; `run(details, x=1)` starts a run of it.
    """

    def __init__(
        self,
        record: DeployedTask,
        interface: TaskInterface,
        *,
        policy: Policy | None = None,
        cache: Cache | None = None,
        max_inline_io_bytes: int = 0,
        short_name: str = "",
    ) -> None:
        self.record = record
        self._interface = interface
        self._policy = policy or record.policy
        self._cache = cache or cache_of(record)
        self.max_inline_io_bytes = max_inline_io_bytes or record.inline_bytes_max
        self.short_name = short_name or record.short_name

    def image_plan(self) -> None:
        """Return None: what was deployed names its environment itself."""

    @property
    def name(self) -> str:
        """`<environment>.<function>`."""
        return self.record.name

    @property
    def version(self) -> str:
        """The version that it was deployed as."""
        return self.record.version

    @property
    def project(self) -> str:
        """Project that it was deployed to."""
        return self.record.project

    @property
    def domain(self) -> str:
        """Domain that it was deployed to."""
        return self.record.domain

    @property
    def task_type(self) -> str:
        """Always `python`."""
        return "python"

    @property
    def interface(self) -> TaskInterface:
        """Parameters and result."""
        return self._interface

    @property
    def default_input_args(self) -> tuple[str, ...]:
        """Names of the parameters that have a default."""
        return tuple(self._interface.defaults)

    @property
    def required_args(self) -> tuple[str, ...]:
        """Names of the parameters without a default."""
        return tuple(self._interface.required_inputs())

    @property
    def json_schema(self) -> Mapping[str, Any]:
        """The parameters as a JSON schema."""
        return schema_of_record(self.record)

    @property
    def cache(self) -> Cache:
        """When an earlier result may stand in for a call."""
        return self._cache

    @property
    def cache_version(self) -> str:
        """Version that results are kept under: as it was when the task was deployed."""
        return self._cache.version_override or self.record.cache_version

    @property
    def links(self) -> tuple[Link, ...]:
        """None: links are declared with code that is not here."""
        return ()

    @property
    def queue(self) -> str | None:
        """Queue of the calls; None: the run's own."""
        return self._policy.queue or None

    @property
    def entrypoint(self) -> bool:
        """Whether it is marked as one to start runs with."""
        return self.record.entrypoint

    @property
    def by_name(self) -> bool:
        """The reference leads to the task in any process: it brings its own code."""
        return True

    @property
    def func(self) -> Any:
        """Stands for the function, which is not here."""
        return self._interface.func

    def ref(self) -> TaskRef:
        """Return how a worker finds the function, and with which code."""
        return self.record.ref

    def policy(self) -> Policy:
        """Return how the scheduler is to treat a call."""
        return self._policy

    async def __call__(self, *args: object, **kwargs: object) -> Any:
        """Call the task from a task of a run on a cluster; arguments by name.

        Raises:
            RemoteTaskUsageError: Outside of a task, in local mode, or arguments by position.
            RuntimeDataValidationError: The arguments do not fit the task's parameters.
        """
        if args:
            raise RemoteTaskUsageError(
                f"the deployed task {self.name} takes its arguments by name only: write name=value"
            )
        context = _remote_context(self.name)
        request = _call.encode_call(self, (), kwargs, group_here(context))
        outcome = await _call.on_host(context, _call.submit(context, request))
        return _call.decode_outcome(self, outcome)

    def override(
        self,
        *,
        short_name: str | None = None,
        resources: Resources | None = None,
        retries: RetryRequest = 0,
        timeout: TimeoutRequest | None = None,
        env_vars: Mapping[str, str] | None = None,
        secrets: object = None,
        service_account: str | None = None,
        max_inline_io_bytes: int | None = None,
        cache: Cache | None = None,
        queue: str | None = None,
        produces_artifacts: bool | None = None,
        **others: object,
    ) -> "TaskDetails":
        """Return the same task with other settings; what is empty keeps what it has.

        Raises:
            RemoteTaskUsageError: A setting that a deployed task has not.
            ValueError: A cache whose version follows from code that is not here.
            NotYetSupportedError: `secrets`.
        """
        if others:
            raise RemoteTaskUsageError(
                f"the deployed task {self.name} cannot be overridden with {sorted(others)}"
            )
        check_settings({"secrets": secrets, "service_account": service_account})
        _check_cache(cache)
        settings = TaskSettings(
            short_name=self.name,
            cache=Cache("disable"),
            retries=retry_of(retries),
            timeout=timeout or 0,
            resources=resources or Resources(),
            env_vars=dict(env_vars or {}),
            queue=queue or "",
        )
        asked = settings.policy(is_async=self._policy.worker != WORKER_THREAD)
        given = (queue, retries, timeout, resources, env_vars)
        names = [name for one, group in zip(given, _GROUPS, strict=True) if one for name in group]
        changes: dict[str, Any] = {name: getattr(asked, name) for name in names}
        if cache is not None:
            changes["cache_max_age_ms"] = cache.max_age_ms
        if produces_artifacts is not None:
            changes["produces"] = () if produces_artifacts else None
        return TaskDetails(
            self.record,
            self._interface,
            policy=msgspec.structs.replace(self._policy, **changes),
            cache=cache or self._cache,
            max_inline_io_bytes=max_inline_io_bytes or self.max_inline_io_bytes,
            short_name=short_name or self.short_name,
        )

    def to_dict(self) -> View:
        """Return what `millstream get task -o json` shows of the version."""
        return view_of(self.record)

    def __repr__(self) -> str:
        return f"<TaskDetails {self.name} {self.version}: {self._interface!r}>"


def _check_cache(cache: Cache | None) -> None:
    if cache is None or cache.version_override:
        return
    if cache.behavior == "override":
        raise ValueError("cache.version_override must be set when cache.behavior is 'override'")
    if cache.behavior == "auto":
        raise ValueError("cache.behavior must be 'disable' or 'override' for a deployed task")


class LazyEntity:
    """A deployed task that is looked up when it is first needed."""

    def __init__(self, query: TaskQuery, auto_version: str | None) -> None:
        self._query = query
        self._auto_version = auto_version
        self._overrides: tuple[Mapping[str, Any], ...] = ()
        self._found: TaskDetails | None = None

    @property
    def name(self) -> str:
        """`<environment>.<function>`."""
        return self._query.name

    @functools.cached_property
    def fetch(self) -> "_Fetch":
        """Look the task up, once: `entity.fetch()`, or `await entity.fetch.aio()`.

        Raises:
            RemoteTaskNotFoundError: None was deployed under that name and version.
            RemoteTaskUsageError: In local mode.
        """
        return _Fetch(self)

    def override(self, **settings: Any) -> "LazyEntity":
        """Return the same task with other settings; see `TaskDetails.override`."""
        made = LazyEntity(self._query, self._auto_version)
        made._found = None if self._found is None else self._found.override(**settings)
        made._overrides = (*self._overrides, settings)
        return made

    async def __call__(self, *args: object, **kwargs: object) -> Any:
        """Call the task; see `TaskDetails.__call__`."""
        _remote_context(self.name)
        return await (await self.look_up())(*args, **kwargs)

    async def look_up(self) -> TaskDetails:
        """Return the task, from the leader inside a task, else from the log."""
        if self._found is None:
            context = current.get()
            query = msgspec.structs.replace(self._query, version=self._version(context))
            if context is None:
                found = await background.join(_read(query))
            else:
                _remote_context(self.name)
                found = await _call.on_host(context, _ask(context, query))
            for settings in self._overrides:
                found = found.override(**settings)
            self._found = found
        return self._found

    def _version(self, context: ActionContext | None) -> str:
        if self._query.version or self._auto_version != "current":
            return self._query.version
        if context is None:
            raise ValueError("auto_version=current can only be used within a task context.")
        if context.task.deployed is not None:
            return context.task.deployed.version
        return context.bundle.hex()[:VERSION_CHARS]

    def __repr__(self) -> str:
        return f"Future for task with name {self.name}"


class _Fetch:
    """`fetch` in two forms."""

    def __init__(self, entity: LazyEntity) -> None:
        self._entity = entity

    def __call__(self) -> TaskDetails:
        context = current.get()
        if context is None:
            return background.run(self._entity.look_up(), name="LazyEntity.fetch")
        if _call.in_event_loop():
            raise SyncTaskCallInAsyncContextError(
                f"fetching {self._entity.name} plainly from async code would block the event "
                f"loop; write `await entity.fetch.aio()`"
            )
        return _call.wait_for(context, self._entity.look_up())

    async def aio(self) -> TaskDetails:
        """Look the task up, awaited on any event loop."""
        return await self._entity.look_up()


def _remote_context(name: str) -> ActionContext:
    context = _call.context_for_call(name)
    if context is None or context.mode == "local":
        raise RemoteTaskUsageError(
            f"the deployed task {name} cannot be called here: it runs on a cluster only. Call it "
            f"from a task of a run there, or start one with run(...)"
        )
    return context


async def _ask(context: ActionContext, query: TaskQuery) -> TaskDetails:
    """Ask the leader from inside a task; a later attempt gets the recorded answer."""
    query = TaskQuery(
        query.project or context.project,
        query.domain or context.domain,
        query.name,
        query.version,
    )
    content = encode(query)
    hash_ = hash_bytes([content], size=_HASH_BYTES)
    scope = _call.scope_here(context)
    group = group_here(context)
    k = _call.occurrence(scope, _LOOKUP, hash_, group)
    id_ = child_id(scope.id, task_identity=_LOOKUP, inputs_hash=hash_, group=group, k=k)
    await _settling.settle(context)
    entry = context.controller.recorded(id_)
    if entry is None:
        call = Call(id_, "lookup", TaskRef(query.name), content, "msgpack", hash_, group, k)
        try:
            entry = await context.controller.call(call)
        except RejectedError as exc:
            if exc.reason_code == "no-such-task":
                raise _not_found(query) from None
            raise
    outcome = await _call.collect(context, entry)
    assert outcome.content is not None, entry
    record = msgspec.msgpack.decode(outcome.content, type=DeployedTask)
    interface = record.interface
    packed = await context.controller.fetch(interface) if interface is not None else b""
    return TaskDetails(record, unpack_interface(packed))


async def _read(query: TaskQuery) -> TaskDetails:
    place = installation()
    if place.settings.mode == "local":
        raise RemoteTaskUsageError(
            f"the deployed task {query.name} cannot be had in local mode: it is on a cluster"
        )
    client = await place.client("remote")
    query = TaskQuery(
        query.project or place.settings.project,
        query.domain or place.settings.domain,
        query.name,
        query.version,
    )
    shard = await read_deployed(client)
    found = find_version(shard, query.project, query.domain, query.name, query.version)
    if found is None:
        raise _not_found(query)
    return await details_of(client, found)


def find_version(
    shard: ShardState, project: str, domain: str, name: str, version: str
) -> DeployedTask | None:
    """Return the version of a task, the latest one if `version` is empty; None: not there."""
    for known in reversed(shard.tasks.get(task_key(project, domain, name), [])):
        if not version or known.task.version == version:
            return known.task
    return None


async def details_of(client: Client, record: DeployedTask) -> TaskDetails:
    """Return the task of a record, with its interface brought from where it lies."""
    packed = b"" if record.interface is None else await client.content_of(record.interface)
    return TaskDetails(record, unpack_interface(packed))


def _not_found(query: TaskQuery) -> RemoteTaskNotFoundError:
    where = f"in {query.project} {query.domain}"
    if not query.version:
        return RemoteTaskNotFoundError(f"No versions found for Task {query.name} {where}.")
    return RemoteTaskNotFoundError(f"Task {query.name}, version {query.version} not found {where}.")


def view_of(record: DeployedTask, version: DeployedVersion | None = None) -> View:
    """Return a deployed version as a plain dict."""
    deployed = record.ref.deployed
    at_ms = 0 if version is None else version.deployed_ms
    return {
        "name": record.name,
        "version": record.version,
        "project": record.project,
        "domain": record.domain,
        "environment": record.environment,
        "short_name": record.short_name,
        "bundle": None if deployed is None else deployed.bundle.hex(),
        "entrypoint": record.entrypoint,
        "cache": record.cache,
        "docs": record.docs,
        "inputs": cast("Any", schema_of_record(record)),
        "deployed_at": show_time(at_ms * 1_000_000),
        "deployed_by": None if version is None else version.who,
    }
