"""Deployed tasks and their triggers: what `deploy` puts into the log of a shard.

A deployed task is a version of a task that anybody may call by its name, without having its
code: it carries its own bundle. A trigger starts runs of one deployed version at times that
follow from its schedule alone (`schedules`).
"""

from typing import Final, TypeAlias

import msgspec

from millstream_events.artifacts import ArtifactPattern, ArtifactVersion
from millstream_events.partitions import text_of, utc_text
from millstream_events.values import Inline, Policy, TaskRef, Value

#: Versions of one task that a shard keeps; the oldest one goes when another comes.
VERSIONS_MAX: Final = 100
#: Names of deployed tasks, and triggers, that one shard may have.
TASKS_MAX: Final = 10_000
TRIGGERS_MAX: Final = 1_000
#: Code of the extension by which a value says "a datetime" (the SDK's wire format).
_DATETIME_CODE: Final = 3


class DeployedTask(msgspec.Struct, frozen=True, array_like=True):
    """One version of a task that was deployed."""

    project: str
    domain: str
    #: With the version and the bundle in it (`TaskRef.deployed`).
    ref: TaskRef
    policy: Policy
    #: Parameters and result, written and read by the SDK alone.
    interface: Value | None = None
    #: Hash of all that a call depends on: the same version with another one is refused.
    body: bytes = b""
    short_name: str = ""
    environment: str = ""
    docs: str = ""
    #: disable, override (store only), or auto with the version that results are kept under.
    cache: str = "disable"
    cache_version: str = ""
    ignored_inputs: tuple[str, ...] = ()
    #: Most that the inputs, or the outputs, of one call may take, encoded.
    inline_bytes_max: int = 0
    entrypoint: bool = False
    #: Of identical calls at the same time one runs.
    cache_serialize: bool = False
    #: JSON text of the parameters' schema, for people and forms.
    schema: str = ""

    @property
    def name(self) -> str:
        """`<environment>.<function>`."""
        return self.ref.name

    @property
    def version(self) -> str:
        """The version that it was deployed as."""
        return "" if self.ref.deployed is None else self.ref.deployed.version


class CronSchedule(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """Fires when the wall clock of a time zone matches five fields."""

    expression: str
    timezone: str = "UTC"


class RateSchedule(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Fires every so often."""

    interval_ms: int
    #: First firing, Unix time; 0: one interval after the trigger became active.
    start_ms: int = 0


Schedule: TypeAlias = CronSchedule | RateSchedule


class DeployedTrigger(msgspec.Struct, frozen=True, array_like=True):
    """What a trigger starts, and when."""

    name: str
    project: str
    domain: str
    #: The version of the task that it is pinned to.
    task: TaskRef
    policy: Policy
    #: None: fires only when somebody asks.
    schedule: Schedule | None = None
    #: Inputs of each run, without the one named by `time_input`.
    inputs: Value | None = None
    #: Parameter that gets the time of the firing; empty: none does.
    time_input: str = ""
    description: str = ""
    #: Whether it is active when it is deployed.
    active: bool = True
    labels: tuple[tuple[str, str], ...] = ()
    context: tuple[tuple[str, str], ...] = ()
    cache_mode: int = 0
    #: Empty with a `time_input`: no two firings have the same inputs.
    cache_key: bytes = b""
    who: str = ""
    #: Kept with each run: annotations, and whom to tell of its end.
    notes: tuple[tuple[str, str], ...] = ()
    #: New versions of an artifact that it fires for; None: it does not.
    artifact: ArtifactPattern | None = None


class Firing(msgspec.Struct, frozen=True, array_like=True):
    """Why a run was created by the leader itself."""

    #: `trigger_key`.
    trigger: str
    #: The time that the trigger was due, Unix ms.
    at_ms: int
    #: Name and version of the artifact that it fired for; empty: it was due by its schedule.
    artifact: str = ""
    version: str = ""


class TaskQuery(msgspec.Struct, frozen=True, array_like=True):
    """Which deployed task a running attempt asks for (kind `lookup` of a call)."""

    project: str
    domain: str
    name: str
    #: Empty: the latest one.
    version: str = ""


def task_key(project: str, domain: str, name: str) -> str:
    """Return the key of a task in `ShardState.tasks`."""
    return f"{project}\x00{domain}\x00{name}"


def trigger_key(project: str, domain: str, task: str, name: str) -> str:
    """Return the key of a trigger in `ShardState.triggers`."""
    return f"{project}\x00{domain}\x00{task}\x00{name}"


def key_of(trigger: DeployedTrigger) -> str:
    """Return the key of `trigger`."""
    return trigger_key(trigger.project, trigger.domain, trigger.task.name, trigger.name)


def inputs_for(trigger: DeployedTrigger, version: ArtifactVersion) -> Value | None:
    """Return the inputs of a firing for `version`; a partition that it lacks is left out."""
    pattern, spec = trigger.artifact, version.spec
    if pattern is None:
        return trigger.inputs
    values: dict[str, msgspec.Raw] = {}
    codec = "msgpack"
    if isinstance(trigger.inputs, Inline):
        codec = trigger.inputs.codec
        values = msgspec.msgpack.decode(trigger.inputs.content, type=dict[str, msgspec.Raw])
    if pattern.value_input and spec.value is not None:
        values[pattern.value_input] = msgspec.Raw(spec.value.content)
        codec = codec if spec.value.codec == "msgpack" else spec.value.codec
    strings = dict(spec.partitions)
    for parameter, key, as_time in pattern.partition_inputs:
        value: object = strings.get(key)
        if spec.time is not None and spec.time.key == key:
            shown = utc_text(spec.time.at_ms)
            stamp = msgspec.msgpack.Ext(_DATETIME_CODE, shown.encode())
            value = stamp if as_time else text_of(spec.time)
        if value is not None:
            values[parameter] = msgspec.Raw(msgspec.msgpack.encode(value))
    return Inline(codec, msgspec.msgpack.encode(values)) if values else trigger.inputs


def inputs_at(trigger: DeployedTrigger, shown: str) -> Value | None:
    """Return the inputs of a firing.

    Args:
        trigger: Which one.
        shown: The time of the firing in UTC, as `schedules.show_utc` writes it.
    """
    if not trigger.time_input:
        return trigger.inputs
    values: dict[str, msgspec.Raw] = {}
    if isinstance(trigger.inputs, Inline):
        values = msgspec.msgpack.decode(trigger.inputs.content, type=dict[str, msgspec.Raw])
    stamp = msgspec.msgpack.Ext(_DATETIME_CODE, shown.encode())
    values[trigger.time_input] = msgspec.Raw(msgspec.msgpack.encode(stamp))
    codec = trigger.inputs.codec if trigger.inputs is not None else "msgpack"
    return Inline(codec, msgspec.msgpack.encode(values))
