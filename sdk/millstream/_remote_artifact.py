"""`remote.Artifact`: versions of artifacts, with what they say of themselves."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, ClassVar, cast

import msgspec

from millstream._artifact_asking import Asked, AskedEach, here
from millstream._artifact_metadata import KIND_KEY, ArtifactKey, ArtifactVersionId, Kind
from millstream._artifact_partitions import Parts, partitions_of, show_partition, value_of_time
from millstream._artifact_selection import PartitionSchema, schema_of
from millstream._context import current
from millstream._reader import read_shard
from millstream._syncify import syncify_method
from millstream._values import decode
from millstream._views import View, show_time
from millstream.errors import RejectedError, RemoteTaskUsageError
from millstream_events.artifacts import USED_NOTE, ArtifactVersion, ParentRef, TimeSlice, tracker_of
from millstream_events.artifacts import ArtifactGroup as GroupRecord
from millstream_events.artifacts import Card as CardRecord
from millstream_events.ids import action_name

_KINDS = ("model", "data", "generic")


class ArtifactNotFoundError(RejectedError, ValueError):
    """No version of an artifact is there that was asked for."""


class Artifact:
    """One published version of an artifact; given to a run, it stands for its value."""

    #: `create(value, *, name=None, version=None, description=None, attrs=None, kind=None,
    #: card=None, python_type=None, project=None, domain=None, external_ref=None,
    #: partitions=None, parents=None)`: publish a version.
    create: ClassVar["Asked[..., Artifact]"]
    #: `get(name, version="latest", *, project=None, domain=None, partitions=None, **partitions)`.
    get: ClassVar["Asked[..., Artifact]"]
    #: `listall(name=None, created_after=None, limit=-1, *, project=None, domain=None,
    #: source_run=None, source_action=None, source_external_ref=None, kind=None, attrs=None,
    #: latest_per_partition=False, partitions=None, **partitions)`: newest first.
    listall: ClassVar["AskedEach[..., Artifact]"]
    #: `list_names(search=None, limit=-1, *, project=None, domain=None)`: one for each artifact.
    list_names: ClassVar["AskedEach[..., ArtifactGroup]"]
    #: `partition_values(name, key, *, project=None, domain=None, limit=1000, partitions=None,
    #: **partitions)`: the values that one key has, in order.
    partition_values: ClassVar["Asked[..., list[Any]]"]
    #: `declare(name, partitions, *, project=None, domain=None)`: fix the keys ahead.
    declare: ClassVar["Asked[..., PartitionSchema]"]
    #: `get_schema(name, *, project=None, domain=None)`: the keys of an artifact's partitions.
    get_schema: ClassVar["Asked[..., PartitionSchema]"]

    def __init__(self, record: ArtifactVersion) -> None:
        self.record = record

    @property
    def name(self) -> str:
        """Name of the artifact."""
        return self.record.name

    @property
    def version(self) -> str:
        """Which version of it this is."""
        return self.record.version

    @property
    def project(self) -> str:
        """Project that it belongs to."""
        return self.record.project

    @property
    def domain(self) -> str:
        """Domain that it belongs to."""
        return self.record.domain

    @property
    def tracker(self) -> str:
        """The version as text: `project/domain/name@version`."""
        return tracker_of(self.record)

    @property
    def artifact_version_id(self) -> ArtifactVersionId:
        """The version as a parent of another one."""
        key = ArtifactKey(project=self.project, domain=self.domain, name=self.name)
        return ArtifactVersionId(key=key, version=self.version)

    @property
    def description(self) -> str:
        """What the publisher says of it."""
        return self.record.spec.description

    @property
    def attrs(self) -> dict[str, str]:
        """Its attributes, the reserved one of its kind among them."""
        return dict(self.record.spec.attrs)

    @property
    def kind(self) -> Kind:
        """What it is; `generic` if nobody has said."""
        card = self.record.spec.card
        said = (self.attrs.get(KIND_KEY), None if card is None else card.type)
        return cast("Kind", next((kind for kind in said if kind in _KINDS), "generic"))

    @property
    def card(self) -> CardRecord | None:
        """The page that shows it; None: it has none."""
        return self.record.spec.card

    @property
    def partitions(self) -> dict[str, Any]:
        """Its partitions: a `date` or (by the hour) a `datetime`, and strings."""
        spec = self.record.spec
        return partitions_of(Parts(spec.partitions, spec.time))

    @property
    def time_partition(self) -> TimeSlice | None:
        """Key, beginning and length of the stretch of time that it is about; None: of none."""
        return self.record.spec.time

    @property
    def parents(self) -> tuple[ArtifactVersionId, ...]:
        """What it was made from, as full ids; they need not exist."""
        return tuple(self._parent(each) for each in self.record.spec.parents)

    def _parent(self, ref: ParentRef) -> ArtifactVersionId:
        key = ArtifactKey(
            project=ref.project or self.project,
            domain=ref.domain or self.domain,
            name=ref.name or self.name,
        )
        return ArtifactVersionId(key=key, version=ref.version)

    @property
    def created_at(self) -> datetime:
        """When it was published."""
        return datetime.fromtimestamp(self.record.created_ms / 1000, UTC)

    @property
    def created_by(self) -> str:
        """Who published it, or started the run that did."""
        return self.record.who

    @property
    def source_run(self) -> str | None:
        """Id of the run that made it; None: none did."""
        return self.record.run or None

    @property
    def source_action(self) -> str | None:
        """Name of the action that made it; None: none did."""
        return action_name(self.record.action_id) if self.record.run else None

    @property
    def source(self) -> str:
        """Where it comes from, as text; empty: nobody has said."""
        if self.record.spec.external_ref or not self.record.run:
            return self.record.spec.external_ref
        return f"run {self.record.run}/{self.source_action} (attempt {self.record.attempt})"

    @property
    def url(self) -> str | None:
        """Page in the console; None while there is no console."""
        return None

    @property
    def source_run_url(self) -> str | None:
        """Page of the run that made it; None while there is no console."""
        return None

    @property
    def source_action_url(self) -> str | None:
        """Page of the action that made it; None while there is no console."""
        return None

    async def to_python(self, python_type: Any = None) -> Any:
        """Return its value: a `File`, `Dir` or `DataFrame`, whose content is not touched yet.

        Args:
            python_type: What it is to be; None: what it was published as.

        Raises:
            RuntimeDataValidationError: It is nothing of that type.
        """
        return self.value_as(Any if python_type is None else python_type)

    def value_as(self, annotation: object) -> Any:
        """Return its value as a parameter with that annotation gets it; see `to_python`."""
        value = self.record.spec.value
        return None if value is None else decode(value.codec, value.content, annotation)

    @syncify_method
    async def consumers(self) -> list[str]:
        """Return the names of the runs that were given this version, or asked for it.

        Raises:
            RemoteTaskUsageError: Inside a task: it would read the whole log.
        """
        if current.get() is not None:
            raise RemoteTaskUsageError("who uses an artifact is read from the log, not in a task")
        _, client = await here()
        runs = (await read_shard(client.log)).runs.values()
        return [
            run.name or run.id
            for run in runs
            if any(key.startswith(USED_NOTE) and text == self.tracker for key, text in run.notes)
        ]

    @syncify_method
    async def delete(self) -> None:
        """Refuse: a version that was published stays in the log.

        Raises:
            NotImplementedError: Always, as in Flyte.
        """
        raise NotImplementedError("artifacts are not deleted: what was published stays published")

    def to_dict(self) -> View:
        """Return what `millstream get artifact -o json` shows."""
        record, spec = self.record, self.record.spec
        return {
            "name": self.name,
            "version": self.version,
            "project": self.project,
            "domain": self.domain,
            "kind": self.kind,
            "type": spec.kind,
            "partitions": {key: show_partition(each) for key, each in self.partitions.items()},
            "description": spec.description,
            "attrs": {key: text for key, text in spec.attrs if key != KIND_KEY},
            "card": None if spec.card is None else msgspec.to_builtins(_card_view(spec.card)),
            "parents": [
                f"{each.key.project}/{each.key.domain}/{each.key.name}@{each.version}"
                for each in self.parents
            ],
            "source": self.source or None,
            "run": self.source_run,
            "action": self.source_action,
            "attempt": record.attempt or None,
            "external_ref": spec.external_ref or None,
            "uri": _uri_of(self.value_as(Any)),
            "created_at": show_time(record.created_ms * 1_000_000),
            "created_by": record.who,
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return msgspec.json.encode(self.to_dict()).decode()

    def __repr__(self) -> str:
        return f"<Artifact {self.tracker}>"


def _card_view(card: CardRecord) -> Mapping[str, str]:
    return {"uri": card.uri, "format": card.format, "type": card.type}


def _uri_of(value: object) -> str | None:
    return getattr(value, "path", None) or getattr(value, "uri", None)


class ArtifactGroup:
    """One artifact: its newest version, and how many it has."""

    def __init__(self, record: GroupRecord) -> None:
        self.record = record

    @property
    def name(self) -> str:
        """Name of the artifact."""
        return self.record.name

    @property
    def versions(self) -> int:
        """How many versions it has."""
        return self.record.versions

    @property
    def latest(self) -> Artifact | None:
        """The newest version; None: it was declared, and has none."""
        return None if self.record.latest is None else Artifact(self.record.latest)

    @property
    def partition_schema(self) -> PartitionSchema | None:
        """The keys of its partitions; None: it has none."""
        schema = schema_of(self.record.keys, declared=self.record.declared)
        return schema if schema.all_keys else None

    @property
    def latest_time_partition(self) -> date | datetime | None:
        """The newest stretch of time of all versions; None: there is none."""
        if self.record.latest_ms < 0:
            return None
        return value_of_time(self.record.latest_ms, self.record.keys.granularity)

    def to_dict(self) -> View:
        """Return what `millstream get artifact -o json` shows of an artifact."""
        schema, latest = self.partition_schema, self.latest
        newest = self.latest_time_partition
        return {
            "name": self.name,
            "versions": self.versions,
            "partitions": [] if schema is None else list(schema.all_keys),
            "latest_partition": None if newest is None else show_partition(newest),
            "latest_version": None if latest is None else latest.version,
            "kind": None if latest is None else latest.kind,
            "description": None if latest is None else latest.description,
            "source": None if latest is None else latest.source or None,
            "created_at": None if latest is None else latest.to_dict()["created_at"],
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return msgspec.json.encode(self.to_dict()).decode()

    def __repr__(self) -> str:
        return f"<ArtifactGroup {self.name}, {self.versions} versions>"
