"""Registering tasks as versions that others call by name, and the triggers that start them.

Apps among the environments are served, without waiting until they answer.

`deploy(env)` takes the environment and all that it depends on. A version is the code that it
was made of: deploying the same again changes nothing, and one version never means two things.
"""

import asyncio
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import msgspec

from millstream._app_environment import AppEnvironment
from millstream._bundle import Bundle
from millstream._client import Client, new_command_id
from millstream._deployed import pack_interface, record_of
from millstream._environment import TaskEnvironment
from millstream._init import Installation, installation
from millstream._remote_app import App
from millstream._remote_task import VERSION_CHARS
from millstream._run_options import RunOptions
from millstream._serve_remote import ServeOptions, serve_one
from millstream._submit import Code, code_of
from millstream._syncify import syncify
from millstream._task import Task
from millstream._trigger_record import TriggerRequest, trigger_record
from millstream._values_sink import Sink, finish
from millstream.errors import DeploymentError
from millstream_events.commands import DeployTask
from millstream_events.deployed import DeployedTask as TaskRecord
from millstream_events.deployed import DeployedTrigger
from millstream_events.errors import RejectedError
from millstream_events.ids import digest_of
from millstream_events.values import INLINE_BYTES_MAX, NO_NEEDS, Blob, Inline, Value

#: Tasks registered at once.
_AT_ONCE_MAX = 16

Row = list[tuple[str, ...]]
Deployable: TypeAlias = TaskEnvironment | AppEnvironment


@dataclass
class DeployedTask:
    """A task that was registered, with its triggers."""

    deployed_task: TaskRecord
    deployed_triggers: list[DeployedTrigger]

    def get_name(self) -> str:
        """Return the task's name."""
        return self.deployed_task.name

    @property
    def version(self) -> str:
        """The version that it was registered as."""
        return self.deployed_task.version

    def summary_repr(self) -> str:
        """Return the task and its version in one line."""
        task = self.deployed_task
        return f"DeployedTask(name={task.name}, version={task.version})"

    def table_repr(self) -> Row:
        """Return what a table shows of the task: pairs of key and text."""
        return [
            ("type", "task"),
            ("name", self.deployed_task.name),
            ("version", self.deployed_task.version),
            ("triggers", ",".join(trigger.name for trigger in self.deployed_triggers)),
        ]


@dataclass
class DeployedTaskEnvironment:
    """An environment whose tasks were registered."""

    env: TaskEnvironment
    deployed_entities: list[DeployedTask]

    def get_name(self) -> str:
        """Return the environment's name."""
        return self.env.name

    def summary_repr(self) -> str:
        """Return the environment and its tasks in one line."""
        entities = ", ".join(entity.summary_repr() for entity in self.deployed_entities)
        return f"Deployment(env=[{self.env.name}], entities=[{entities}])"

    def table_repr(self) -> list[Row]:
        """Return what a table shows: one row for each task."""
        return [entity.table_repr() for entity in self.deployed_entities]

    def env_repr(self) -> Row:
        """Return what a table shows of the environment itself."""
        image = self.env.image
        return [("environment", self.env.name), ("image", str(image or ""))]


@dataclass
class DeployedAppEnvironment:
    """An app that was served by a deployment; it may be on its way still."""

    env: AppEnvironment
    #: None in a dry run.
    deployed_app: App | None

    def get_name(self) -> str:
        """Return the app's name."""
        return self.env.name

    def summary_repr(self) -> str:
        """Return the app in one line."""
        return f"Deployed App[{self.env.name}] in environment {self.env.name}"

    def env_repr(self) -> Row:
        """Return what a table shows of the environment itself."""
        return [("environment", self.env.name), ("image", str(self.env.image or ""))]

    def table_repr(self) -> list[Row]:
        """Return what a table shows of the app."""
        app = self.deployed_app
        shown = {} if app is None else app.to_dict()
        keys = ("revision", "status", "endpoint")
        row = [("type", "App"), ("name", self.env.name)]
        return [[*row, *((key, str(shown.get(key) or "")) for key in keys)]]


@dataclass(frozen=True)
class Deployment:
    """What one call of `deploy` has made of one environment and all that it depends on."""

    envs: dict[str, DeployedTaskEnvironment | DeployedAppEnvironment]

    def summary_repr(self) -> str:
        """Return the deployment in one line."""
        envs = ", ".join(env.summary_repr() for env in self.envs.values())
        return f"Deployment(envs=[{envs}])"

    def table_repr(self) -> list[Row]:
        """Return what a table shows: one row for each task."""
        return [row for env in self.envs.values() for row in env.table_repr()]

    def env_repr(self) -> list[Row]:
        """Return what a table shows of the environments."""
        return [env.env_repr() for env in self.envs.values()]


def plan_deploy(*envs: Deployable) -> list[dict[str, Deployable]]:
    """Return what is deployed together: each environment with all that it depends on.

    Raises:
        ValueError: Two environments have one name.
    """
    plans: list[dict[str, Deployable]] = []
    seen: dict[str, Deployable] = {}
    for env in envs:
        if env.name in seen:
            if seen[env.name] is not env:
                raise _duplicate(env)
            continue
        plan: dict[str, Deployable] = {}
        _discover(plan, env)
        for name, found in plan.items():
            if seen.get(name, found) is not found:
                raise _duplicate(found)
        plans.append(plan)
        seen.update(plan)
    return plans


def _discover(plan: dict[str, Deployable], env: Deployable) -> None:
    """Add `env` and all that it depends on to the plan."""
    known = plan.get(env.name)
    if known is env:
        return
    if known is not None:
        raise _duplicate(env)
    plan[env.name] = env
    for other in env.depends_on:
        if isinstance(other, TaskEnvironment | AppEnvironment):
            _discover(plan, other)


def _duplicate(env: Deployable) -> ValueError:
    return ValueError(
        f"Duplicate environment name '{env.name}' found. Each TaskEnvironment must have a "
        f"unique name."
    )


@syncify
async def deploy(
    *envs: Deployable,
    dry_run: bool = False,
    version: str | None = None,
    interactive_mode: bool | None = None,
    copy_style: str = "loaded_modules",
    dryrun: bool | None = None,
) -> list[Deployment]:
    """Register the tasks of environments, and of all that these depend on.

    Args:
        envs: What to deploy; one that another depends on is deployed once.
        dry_run: Only say what would be registered.
        version: Name of the version; None: the beginning of the code's digest.
        interactive_mode: Pickle the tasks instead of importing them; None: where no file holds
            them.
        copy_style: `loaded_modules`, `all` or `none`.
        dryrun: The former name of `dry_run`.

    Returns:
        One deployment for each of `envs`, but for those that came with an earlier one.

    Raises:
        DeploymentError: No version can be made up, the version means other content already, or
            local mode.
        CodeBundleError: The code cannot be sent.
        ValueError: Two environments have one name, or a trigger fits its task badly.
    """
    if dryrun is not None:
        warnings.warn(
            "deploy(dryrun=...) is deprecated, use deploy(dry_run=...) instead.",
            FutureWarning,
            stacklevel=2,
        )
        dry_run = dry_run or dryrun
    for env in cast("tuple[object, ...]", envs):
        if not isinstance(env, TaskEnvironment | AppEnvironment):
            raise TypeError(f"deploy() takes environments, not {env!r}")
    plans = plan_deploy(*envs)
    place = installation()
    if place.settings.mode == "local" and not dry_run:
        raise DeploymentError("nothing can be deployed in local mode: choose a cluster by `init`")
    options = RunOptions(copy_style=copy_style, interactive_mode=interactive_mode)
    client = None if dry_run else await place.client("remote")
    return [await _deploy_plan(place, client, options, plan, version) for plan in plans]


async def _deploy_plan(
    place: Installation,
    client: Client | None,
    options: RunOptions,
    plan: Mapping[str, Deployable],
    version: str | None,
) -> Deployment:
    room = asyncio.Semaphore(_AT_ONCE_MAX)

    async def one(task: Task[..., Any]) -> DeployedTask:
        async with room:
            return await _deploy_task(place, client, options, task, version)

    envs: dict[str, DeployedTaskEnvironment | DeployedAppEnvironment] = {}
    for name, env in plan.items():
        if isinstance(env, AppEnvironment):
            envs[name] = await _deploy_app(place, client, options, env, version)
            continue
        # Not a group: its errors would reach the caller wrapped up.
        entities = await asyncio.gather(*(one(task) for task in env.tasks.values()))
        envs[name] = DeployedTaskEnvironment(env, entities)
    return Deployment(envs)


async def _deploy_app(
    place: Installation,
    client: Client | None,
    options: RunOptions,
    env: AppEnvironment,
    version: str | None,
) -> DeployedAppEnvironment:
    if client is None:
        return DeployedAppEnvironment(env, None)
    run = RunOptions(copy_style=options.copy_style, version=version or "")
    chosen = ServeOptions(interactive=options.interactive_mode, run=run)
    return DeployedAppEnvironment(env, await serve_one(place, client, env, chosen))


async def _deploy_task(
    place: Installation,
    client: Client | None,
    options: RunOptions,
    task: Task[..., Any],
    version: str | None,
) -> DeployedTask:
    code = code_of(place, options, task, ships_code=True)
    bundle = b"" if code.bundle is None else code.bundle.digest
    chosen = version or bundle.hex()[:VERSION_CHARS]
    if not chosen:
        raise DeploymentError("Version must be set when copy_style is none")
    packed = pack_interface(task)
    record = record_of(
        task,
        code.ref,
        _value_of(packed, "msgpack"),
        version=chosen,
        bundle=bundle,
        project=place.settings.project,
        domain=place.settings.domain,
    )
    plan = task.image_plan()
    if plan is not None:
        needs = msgspec.structs.replace(record.policy.needs or NO_NEEDS, image=plan.digest)
        policy = msgspec.structs.replace(record.policy, needs=needs)
        record = msgspec.structs.replace(record, policy=policy)
    sink = Sink()
    requests: list[TriggerRequest] = []
    for trigger in task.triggers:
        who = "" if client is None else client.who
        requests.append(trigger_record(trigger, task, record, sink, who=who))
    triggers = [request.record for request in requests]
    if client is not None:
        await finish(sink, _Store(client))
        await _store(client, code, packed, code.bundle, requests)
        command = DeployTask(new_command_id(), record, tuple(triggers), client.who)
        try:
            await client.ask(command)
        except RejectedError as exc:
            raise DeploymentError(f"Failed to deploy task {task.name}: {exc}") from exc
    return DeployedTask(record, triggers)


def _value_of(content: bytes, codec: str) -> Value:
    if len(content) <= INLINE_BYTES_MAX:
        return Inline(codec, content)
    return Blob(digest_of(content), len(content), codec)


class _Store:
    """The blob store, for what values leave to do."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def store(self, content: bytes, codec: str) -> Value:
        if len(content) > INLINE_BYTES_MAX:
            await self._client.keep(content)
        return _value_of(content, codec)


async def _store(
    client: Client,
    code: Code,
    interface: bytes,
    bundle: Bundle | None,
    triggers: list[TriggerRequest],
) -> None:
    """Store what the records refer to, before they are registered."""
    if bundle is not None and bundle.digest not in client.kept:
        client.kept.add(await client.keep(bundle.content))
    for plan in code.plans:
        if plan.digest not in client.kept:
            client.kept.add(await client.keep(plan.content))
    contents = [interface, *(trigger.content for trigger in triggers)]
    for content in contents:
        if len(content) > INLINE_BYTES_MAX:
            await client.keep(content)
    if code.pickled is not None:
        await client.keep(code.pickled)
