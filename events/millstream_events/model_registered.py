"""Events of the shard about what is registered by name: tasks, triggers and artifacts.

Part of `model`, which says what holds for every event; use them from there.
"""

from millstream_events.artifacts import ArtifactVersion, PartitionKeys
from millstream_events.deployed import DeployedTask, DeployedTrigger
from millstream_events.facts import Fact


class TaskDeployed(Fact, frozen=True, array_like=True, tag=70):
    """A version of a task is there to be called by its name."""

    deployed: DeployedTask | None = None
    who: str = ""
    at_ms: int = 0


class TriggerDeployed(Fact, frozen=True, array_like=True, tag=71):
    """A trigger is there; nothing that was due before `at_ms` (Unix time) ever fires."""

    defined: DeployedTrigger | None = None
    at_ms: int = 0


class TriggerSwitched(Fact, frozen=True, array_like=True, tag=72):
    """A trigger, named by `deployed.trigger_key`, was activated, deactivated or deleted."""

    trigger: str = ""
    active: bool = False
    deleted: bool = False
    who: str = ""
    at_ms: int = 0


class ArtifactPublished(Fact, frozen=True, array_like=True, tag=73):
    """A version of an artifact is there, or what an attempt produced was refused."""

    published: ArtifactVersion | None = None
    #: Keys of the triggers that it starts: decided when it came, and never again.
    starts: tuple[str, ...] = ()
    #: Key in `ShardState.unpublished` that this settles the first entry of; empty: none.
    settles: str = ""
    #: Why it was not published; empty: it was.
    refused: str = ""


class ArtifactDeclared(Fact, frozen=True, array_like=True, tag=74):
    """The partition keys of an artifact were fixed ahead of its first version."""

    project: str = ""
    domain: str = ""
    name: str = ""
    keys: PartitionKeys | None = None
    who: str = ""
    at_ms: int = 0
