"""Triggers that were deployed: listed, switched, deleted, and fired by hand."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

import msgspec

from millstream._client import Client, new_command_id
from millstream._init import Installation, installation
from millstream._reader import read_shard
from millstream._remote_shown import Shown
from millstream._remote_task import TaskDetails, details_of, find_version
from millstream._remote_tasks import Task
from millstream._syncify import Syncified, SyncifiedIterator
from millstream._trigger import Cron, FixedRate, OnArtifact
from millstream._trigger import Trigger as TriggerSpec
from millstream._trigger_record import trigger_record
from millstream._values_sink import Sink
from millstream._views import View, show_time
from millstream.errors import RemoteTaskNotFoundError
from millstream_events.artifacts import ArtifactVersion, artifact_key
from millstream_events.commands import DeployTrigger, SwitchTrigger
from millstream_events.deployed import (
    CronSchedule,
    DeployedTrigger,
    RateSchedule,
    inputs_at,
    inputs_for,
    trigger_key,
)
from millstream_events.errors import RejectedError
from millstream_events.partitions import fires_for
from millstream_events.schedules import next_after, show_utc
from millstream_events.state import ShardState, TriggerState
from millstream_events.values import INLINE_BYTES_MAX

_NS: int = 1_000_000


class Trigger(Shown):
    """A deployed trigger, as it was when it was read."""

    #: `create(trigger, task_name, task_version=None)`: add one to a task that is deployed.
    create: ClassVar["Syncified[..., Trigger]"]
    #: `get(*, name, task_name)`.
    get: ClassVar["Syncified[..., TriggerDetails]"]
    #: `listall(task_name=None, task_version=None, limit=100)`.
    listall: ClassVar["SyncifiedIterator[..., Trigger]"]
    #: `update(name, task_name, active)`: switch it on or off.
    update: ClassVar["Syncified[..., None]"]
    #: `delete(name, task_name, project=None, domain=None)`; nothing happens if it is gone.
    delete: ClassVar["Syncified[..., None]"]

    def __init__(self, state: TriggerState) -> None:
        self.state = state

    @property
    def name(self) -> str:
        """Its name, unique among the triggers of the task."""
        return self.state.trigger.name

    @property
    def task_name(self) -> str:
        """The task that it starts."""
        return self.state.trigger.task.name

    @property
    def task_version(self) -> str:
        """The version of the task that it starts."""
        deployed = self.state.trigger.task.deployed
        return "" if deployed is None else deployed.version

    @property
    def is_active(self) -> bool:
        """Whether it fires by itself."""
        return self.state.active

    @property
    def description(self) -> str:
        """What it is for."""
        return self.state.trigger.description

    @property
    def automation(self) -> Cron | FixedRate | OnArtifact | None:
        """When it fires; None: only when somebody asks."""
        pattern = self.state.trigger.artifact
        if pattern is not None:
            return OnArtifact(pattern.name, pattern.version or None, dict(pattern.partitions))
        schedule = self.state.trigger.schedule
        if isinstance(schedule, CronSchedule):
            return Cron(schedule.expression, schedule.timezone)
        if isinstance(schedule, RateSchedule):
            start = datetime.fromtimestamp(schedule.start_ms / 1000, UTC)
            return FixedRate(schedule.interval_ms // 60_000, start if schedule.start_ms else None)
        return None

    @property
    def next_fire_time(self) -> datetime | None:
        """When it is due next; None: it is not active, or has no schedule."""
        due_ms = self._next_ms()
        return datetime.fromtimestamp(due_ms / 1000, UTC) if due_ms else None

    @property
    def url(self) -> str | None:
        """Page in the console; None while there is no console."""
        return None

    def _next_ms(self) -> int:
        state = self.state
        if not state.active or state.trigger.schedule is None:
            return 0
        return next_after(state.trigger.schedule, state.cursor_ms, state.since_ms)

    def to_dict(self) -> View:
        """Return what `millstream get trigger -o json` shows."""
        state = self.state
        return {
            "name": self.name,
            "task": self.task_name,
            "version": self.task_version,
            "project": state.trigger.project,
            "domain": state.trigger.domain,
            "active": state.active,
            "automation": None if self.automation is None else str(self.automation),
            "description": self.description,
            "next_at": show_time(self._next_ms() * _NS),
            "fired_at": show_time(state.fired_ms * _NS),
            "fired_run": state.fired_run or None,
            "deployed_at": show_time(state.deployed_ms * _NS),
        }

    async def get_details(self) -> "TriggerDetails":
        """Return all that is known of it; nothing more is read for that."""
        return TriggerDetails(self.state)

    def __repr__(self) -> str:
        active = "active" if self.is_active else "inactive"
        return f"<Trigger {self.name} of {self.task_name} {self.task_version}, {active}>"


class TriggerDetails(Trigger):
    """A deployed trigger with all that is known of it."""


async def _client() -> tuple[Installation, Client]:
    place = installation()
    return place, await place.client(place.settings.mode)


async def _create(trigger: TriggerSpec, task_name: str, task_version: str | None = None) -> Trigger:
    _, client = await _client()
    task: TaskDetails
    if task_version:
        task = await Task.get(task_name, version=task_version).look_up()
    else:
        task = await Task.get(task_name, auto_version="latest").look_up()
    sink = Sink()
    request = trigger_record(trigger, task, task.record, sink, who=client.who)
    if sink.works:
        raise ValueError(f"Trigger '{trigger.name}': files and frames only with `deploy`")
    if len(request.content) > INLINE_BYTES_MAX:
        await client.keep(request.content)
    await client.ask(DeployTrigger(new_command_id(), request.record, client.who))
    return await _get(name=trigger.name, task_name=task_name)


async def _get(*, name: str, task_name: str) -> TriggerDetails:
    place, client = await _client()
    shard = await read_shard(client.log)
    key = trigger_key(place.settings.project, place.settings.domain, task_name, name)
    state = shard.triggers.get(key)
    if state is None:
        raise RejectedError("no-such-trigger", f"{task_name} has no trigger {name!r}")
    return TriggerDetails(state)


async def _list(
    task_name: str | None = None, task_version: str | None = None, limit: int = 100
) -> AsyncIterator[Trigger]:
    place, client = await _client()
    found = [Trigger(state) for state in (await read_shard(client.log)).triggers.values()]
    where = (place.settings.project, place.settings.domain)
    chosen = [
        each
        for each in found
        if (each.state.trigger.project, each.state.trigger.domain) == where
        and (task_name is None or each.task_name == task_name)
        and (task_version is None or each.task_version == task_version)
    ]
    for each in chosen[:limit]:
        yield each


async def _update(name: str, task_name: str, active: bool) -> None:
    place, client = await _client()
    key = trigger_key(place.settings.project, place.settings.domain, task_name, name)
    await client.ask(SwitchTrigger(new_command_id(), key, bool(active), who=client.who))


async def _delete(
    name: str, task_name: str, project: str | None = None, domain: str | None = None
) -> None:
    place, client = await _client()
    key = trigger_key(
        project or place.settings.project, domain or place.settings.domain, task_name, name
    )
    await client.ask(SwitchTrigger(new_command_id(), key, False, deleted=True, who=client.who))


class SavedCall(NamedTuple):
    """What a trigger would start, with some inputs changed."""

    task: TaskDetails
    inputs: Mapping[str, Any]
    labels: Mapping[str, str]
    custom_context: Mapping[str, str]
    overwrite_cache: bool
    notes: tuple[tuple[str, str], ...]


async def saved_call(trigger: Trigger, changes: Mapping[str, object], now_ms: int) -> SavedCall:
    """Return the call that fires `trigger` by hand.

    Args:
        trigger: Which one.
        changes: Inputs instead of its own.
        now_ms: What `TriggerTime` stands for, Unix time. `TriggeredArtifact` stands for the
            newest version that fits.

    Raises:
        RemoteTaskNotFoundError: The version that it is pinned to is not kept any more.
    """
    _, client = await _client()
    record = trigger.state.trigger
    shard = await read_shard(client.log)
    found = find_version(
        shard, record.project, record.domain, trigger.task_name, trigger.task_version
    )
    if found is None:
        raise RemoteTaskNotFoundError(
            f"Task {trigger.task_name}, version {trigger.task_version} of trigger "
            f"{trigger.name!r} is not kept any more; deploy it again."
        )
    task = await details_of(client, msgspec.structs.replace(found, policy=record.policy))
    value = inputs_at(record, show_utc(now_ms))
    if record.artifact is not None:
        newest = _newest_for(shard, record)
        value = record.inputs if newest is None else inputs_for(record, newest)
    inputs: dict[str, object] = {}
    if value is not None:
        content = await client.content_of(value)
        inputs = task.interface.decode_inputs(value.codec, content, frozenset(changes))
    return SavedCall(
        task,
        {**inputs, **changes},
        dict(record.labels),
        dict(record.context),
        record.cache_mode == 1,
        record.notes,
    )


def _newest_for(shard: ShardState, trigger: DeployedTrigger) -> ArtifactVersion | None:
    """Return the newest version that a trigger would have fired for; None: there is none."""
    pattern = trigger.artifact
    assert pattern is not None, trigger.name
    line = shard.artifacts.get(artifact_key(trigger.project, trigger.domain, pattern.name))
    versions = [] if line is None else [*line.versions.values()]
    return next((each for each in reversed(versions) if fires_for(pattern, each)), None)


Trigger.create = Syncified(_create)
Trigger.get = Syncified(_get)
Trigger.listall = SyncifiedIterator(_list)
Trigger.update = Syncified(_update)
Trigger.delete = Syncified(_delete)
