"""Artifacts: values that have a name, a version and a history, as the log keeps them.

What is kept of the value is a reference (the encoded `File`, `Dir` or `DataFrame`), never the
content. A version is never changed and never moved: publishing the same again is no event, and
something else under a known version is refused.
"""

from typing import Final, TypeAlias

import msgspec

from millstream_events.values import Inline

#: Names of artifacts, and versions of all of them together, that one shard may have.
ARTIFACTS_MAX: Final = 10_000
ARTIFACT_VERSIONS_MAX: Final = 100_000
#: Versions that one version may say it was made from.
PARENTS_MAX: Final = 32
#: Artifacts that one attempt may publish with its result.
PRODUCED_MAX: Final = 64
#: Bytes that the description of one version may take.
SPEC_BYTES_MAX: Final = 16 * 1024
#: What a run has been given is a note of it under this key: a parameter, or empty for what its
#: code has asked for; the value is the version's `tracker_of`.
USED_NOTE: Final = "artifact:"
#: And what it produced and could not publish, with the reason.
REFUSED_NOTE: Final = "artifact-refused"
#: Characters of a name, a version, or the key of a partition.
NAME_CHARS_MAX: Final = 256
GRANULARITIES: Final = ("hour", "day", "week", "month")


class Card(msgspec.Struct, frozen=True, array_like=True):
    """A page that shows an artifact to people."""

    uri: str
    format: str = "html"
    #: model, data or generic: how it is drawn.
    type: str = "generic"


class TimeSlice(msgspec.Struct, frozen=True, array_like=True):
    """The stretch of time that a version is about."""

    key: str
    #: Its beginning, Unix ms.
    at_ms: int
    #: One of `GRANULARITIES`.
    granularity: str = "day"


class ParentRef(msgspec.Struct, frozen=True, array_like=True):
    """A version that another was made from; empty parts are those of the other."""

    version: str
    name: str = ""
    project: str = ""
    domain: str = ""


class ArtifactSpec(msgspec.Struct, frozen=True, array_like=True):
    """One version of an artifact, as its publisher describes it."""

    name: str
    #: Empty: made of the run, the action and the attempt that publish it.
    version: str = ""
    #: It says itself what it is, so it needs no annotation to be read.
    value: Inline | None = None
    #: Class of the value, for people.
    kind: str = ""
    description: str = ""
    attrs: tuple[tuple[str, str], ...] = ()
    card: Card | None = None
    #: Partitions that are plain strings, in the order in which they were given.
    partitions: tuple[tuple[str, str], ...] = ()
    time: TimeSlice | None = None
    parents: tuple[ParentRef, ...] = ()
    #: Where it comes from, when that is no run: a URL, say.
    external_ref: str = ""
    #: Output of the action that it is: `o0`, `o1`, or the name of a field; empty: none.
    slot: str = ""


class ArtifactVersion(msgspec.Struct, frozen=True, array_like=True):
    """One version of an artifact, with its version filled in and what made it."""

    spec: ArtifactSpec
    project: str
    domain: str
    created_ms: int = 0
    who: str = ""
    #: The run that made it, the action's ordinal and the attempt; empty: none did.
    run: str = ""
    action: int = 0
    attempt: int = 0
    #: Id of that action.
    action_id: bytes = b""

    @property
    def name(self) -> str:
        """Name of the artifact."""
        return self.spec.name

    @property
    def version(self) -> str:
        """The version."""
        return self.spec.version


class PartitionKeys(msgspec.Struct, frozen=True, array_like=True):
    """Which partitions every version of an artifact has."""

    #: Empty: no partition by time.
    time_key: str = ""
    granularity: str = ""
    keys: tuple[str, ...] = ()


class ArtifactPattern(msgspec.Struct, frozen=True, array_like=True):
    """Which new versions start a trigger's runs, and what of them becomes inputs."""

    name: str
    #: Empty: any.
    version: str = ""
    #: All of these must hold.
    partitions: tuple[tuple[str, str], ...] = ()
    #: Parameter that gets the artifact's value; empty: none does.
    value_input: str = ""
    #: Parameter, key of the partition that it gets, and whether as a datetime.
    partition_inputs: tuple[tuple[str, str, bool], ...] = ()


# ------------------------------------------------------------------ what is asked


class PartitionTest(msgspec.Struct, frozen=True, array_like=True):
    """One condition on the partitions of a version."""

    key: str
    #: The string partition has one of these values; empty: it is about time.
    among: tuple[str, ...] = ()
    #: The time slice begins in this range, both ends included; Unix ms.
    from_ms: int = 0
    until_ms: int = 0


class FindArtifacts(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Which versions are there? Newest first."""

    project: str
    domain: str
    #: Empty: of any artifact.
    name: str = ""
    version: str = ""
    created_after_ms: int = -1
    source_run: str = ""
    #: `a<n>`, or the name that follows from the call; empty: any.
    source_action: str = ""
    external_ref: str = ""
    #: Key and values of which it has one; all of them must hold.
    attrs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    partitions: tuple[PartitionTest, ...] = ()
    latest_per_partition: bool = False
    #: Skip so many, and return so many at most.
    skip: int = 0
    limit: int = 0
    #: The run that asks uses what it is given, and that is noted.
    uses: bool = False


class FindNames(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Which artifacts are there? The one with the newest version first."""

    project: str
    domain: str
    #: Part of the name; empty: all.
    search: str = ""
    skip: int = 0
    limit: int = 0
    #: `search` is the whole name.
    exact: bool = False


class PublishSpec(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Publish this version."""

    project: str
    domain: str
    spec: ArtifactSpec


class DeclareKeys(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Fix the partitions of an artifact ahead of its first version."""

    project: str
    domain: str
    name: str
    keys: PartitionKeys


#: What an attempt asks (kind `artifact` of a call).
ArtifactQuestion: TypeAlias = FindArtifacts | FindNames | PublishSpec | DeclareKeys


class ArtifactGroup(msgspec.Struct, frozen=True, array_like=True):
    """One artifact, with its newest version."""

    name: str
    versions: int = 0
    latest: ArtifactVersion | None = None
    keys: PartitionKeys = PartitionKeys()
    #: The keys were declared, not taken from the first version.
    declared: bool = False
    #: The newest time slice of all versions, Unix ms; -1: none.
    latest_ms: int = -1


class ArtifactAnswer(msgspec.Struct, frozen=True, array_like=True):
    """The answer to any of `ArtifactQuestion`."""

    versions: tuple[ArtifactVersion, ...] = ()
    groups: tuple[ArtifactGroup, ...] = ()
    #: How many to skip for the next page; 0: this was the last one.
    next: int = 0


def artifact_key(project: str, domain: str, name: str) -> str:
    """Return the key of an artifact in `ShardState.artifacts`."""
    return f"{project}\x00{domain}\x00{name}"


def tracker_of(version: ArtifactVersion) -> str:
    """Return a version as text: `project/domain/name@version`."""
    return f"{version.project}/{version.domain}/{version.name}@{version.version}"


def key_of_version(version: ArtifactVersion) -> str:
    """Return the key of the artifact that `version` is one of."""
    return artifact_key(version.project, version.domain, version.name)


def firing_key(trigger: str, version: ArtifactVersion) -> str:
    """Return the key of one firing in `ShardState.firings`: a trigger and a version."""
    return f"{trigger}\x00{version.name}\x00{version.version}"


def keys_of(spec: ArtifactSpec) -> PartitionKeys:
    """Return the partition keys that a version has, strings in alphabetical order."""
    keys = tuple(sorted(key for key, _ in spec.partitions))
    if spec.time is None:
        return PartitionKeys(keys=keys)
    return PartitionKeys(spec.time.key, spec.time.granularity, keys)


def same_keys(one: PartitionKeys, other: PartitionKeys) -> bool:
    """Say whether two sets of keys are the same, in whatever order."""
    times = (one.time_key, one.granularity) == (other.time_key, other.granularity)
    return times and sorted(one.keys) == sorted(other.keys)


def partition_of(spec: ArtifactSpec) -> tuple[object, ...]:
    """Return what two versions of an artifact share only if they are of one partition."""
    at_ms = None if spec.time is None else spec.time.at_ms
    return (at_ms, *sorted(spec.partitions))
