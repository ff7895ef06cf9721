"""Publishing and finding artifacts: the calls of `remote.Artifact`."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from millstream import _call
from millstream._artifact_asking import Asked, AskedEach, answer, fresh_version, here, place_of
from millstream._artifact_metadata import (
    KIND_KEY,
    ArtifactVersionId,
    Kind,
    Metadata,
    resolve_attrs,
    spec_of,
)
from millstream._artifact_new import ensure_artifactable
from millstream._artifact_outputs import complete
from millstream._artifact_partitions import ms_of, show_partitions, to_utc, value_of_time
from millstream._artifact_selection import (
    PartitionSchema,
    conditions_of,
    keys_of_spec,
    refuse_several,
    schema_of,
)
from millstream._artifact_wrapper import metadata_getter, raise_if_nested_wrapper, unwrapped
from millstream._context import current
from millstream._io_paths import RawDataPath, SubmittedTo, Submitting, from_root
from millstream._remote_artifact import Artifact, ArtifactGroup, ArtifactNotFoundError
from millstream._submit import ClientStorage
from millstream._values import encode
from millstream._values_sink import Sink, finish
from millstream_events.artifacts import (
    ArtifactSpec,
    ArtifactVersion,
    DeclareKeys,
    FindArtifacts,
    FindNames,
    PublishSpec,
)

if TYPE_CHECKING:
    from millstream._artifact_card import Card

#: Values of one partition key that are returned unless more are asked for.
_VALUES_MAX: Final = 1000
_MISSING: Final = "no-such-artifact"


async def _create(
    value: Any,
    *,
    name: str | None = None,
    version: str | None = None,
    description: str | None = None,
    attrs: Mapping[str, str] | None = None,
    kind: Kind | None = None,
    card: "Card | None" = None,
    python_type: Any = None,
    project: str | None = None,
    domain: str | None = None,
    external_ref: str | None = None,
    partitions: Mapping[str, Any] | None = None,
    parents: Sequence[str | ArtifactVersionId] | None = None,
) -> Artifact:
    """Publish a file, folder or table that is here, or that lies in a store.

    What `artifacts.new` says of the value holds where an argument says nothing. Inside a task
    the action is recorded as what made it, unless there is an `external_ref`.

    Args:
        value: The `File`, `Dir` or `DataFrame`; what is local is uploaded first.
        name: Name of the artifact.
        version: None: a new one.
        description: For people.
        attrs: Attributes to find it by.
        kind: What it is; kept among `attrs`.
        card: A page that shows it.
        python_type: What it is encoded as; None: by its own class.
        project: Instead of the current one.
        domain: Instead of the current one.
        external_ref: Where it comes from, elsewhere: a URL, an id.
        partitions: Its partitions; see `artifacts.Metadata`.
        parents: What it was made from; see `artifacts.Metadata`.

    Raises:
        ValueError: No name, or partitions that no version can have.
        TypeError: A value that can be no artifact.
        RejectedError: `artifact-taken`: the version is there with other content;
            `partition-mismatch`: the artifact has other partitions.
    """
    said, obj = _said_of(value)
    given: dict[str, Any] = {
        "name": name or None,
        "version": version or None,
        "description": description,
        "attrs": resolve_attrs(said) if attrs is None else attrs,
        "kind": kind,
        "card": card,
        "partitions": partitions,
        "parents": None if parents is None else tuple(parents),
    }
    md = replace(said, **{key: each for key, each in given.items() if each is not None})
    spec = msgspec.structs.replace(_spec_of(md, obj), external_ref=external_ref or "")
    spec = complete(spec, *await _stored(obj, python_type), from_content=md.version_from_content)
    if not spec.version:
        spec = msgspec.structs.replace(spec, version=await fresh_version(md.name))
    return await _published(spec, *place_of(project, domain))


def _said_of(value: object) -> tuple[Metadata, object]:
    """Return what a value says of itself, and the value without its wrapper."""
    raise_if_nested_wrapper(value)
    getter = metadata_getter(value)
    own = None if getter is None else getter()
    return own or Metadata(name=""), unwrapped(value)


def _spec_of(md: Metadata, obj: object) -> ArtifactSpec:
    if not md.name:
        raise ValueError(
            "An artifact name is required: pass name= or publish a value wrapped by "
            "flyte.artifacts.new()"
        )
    ensure_artifactable(obj)
    return spec_of(md)


async def _published(spec: ArtifactSpec, project: str, domain: str) -> Artifact:
    answered = await answer(PublishSpec(project, domain, spec))
    if not answered.versions:
        query = FindArtifacts(project, domain, spec.name, spec.version, limit=1)
        answered = await answer(query)
    return Artifact(answered.versions[0])


async def _stored(value: object, python_type: object) -> tuple[str, bytes]:
    """Return codec and bytes of a value, once what it refers to lies where tasks find it."""
    sink = Sink()
    annotation = Any if python_type is None else python_type
    context = current.get()
    if context is not None:
        encoded = await asyncio.to_thread(encode, value, annotation, sink=sink)
        await _call.on_host(context, finish(sink, context.controller))
        return encoded
    place, client = await here()
    raw = RawDataPath(path=from_root(place.raw_root))
    with SubmittedTo(Submitting(raw, is_local=not client.ships_code)):
        encoded = await asyncio.to_thread(encode, value, annotation, sink=sink)
        await finish(sink, ClientStorage(client))
    return encoded


async def _get(
    name: str,
    version: str = "latest",
    *,
    project: str | None = None,
    domain: str | None = None,
    partitions: Mapping[str, Any] | None = None,
    **partition_kwargs: Any,
) -> Artifact:
    """Return one version: a named one, the newest, or the newest of one partition.

    Raises:
        ValueError: A version and partitions, or several partitions.
        ArtifactNotFoundError: There is no such version; also a `ValueError`.
    """
    selection = {**(partitions or {}), **partition_kwargs}
    refuse_several(name, selection)
    if selection and version != "latest":
        raise ValueError(
            "Artifact.get takes either a version or partition values, not both: a version "
            "already names one artifact version"
        )
    place = place_of(project, domain)
    exact = "" if version == "latest" else version
    query = FindArtifacts(
        *place, name, exact, partitions=conditions_of(selection), limit=1, uses=True
    )
    answered = await answer(query)
    if answered.versions:
        return Artifact(answered.versions[0])
    if selection:
        shown = show_partitions(selection)
        text = f"No version of artifact {name!r} exists for partition {shown}"
    elif exact:
        text = f"No version {version!r} of artifact {name!r} exists in {'/'.join(place)}"
    else:
        text = f"No version of artifact {name!r} exists in {'/'.join(place)}"
    raise ArtifactNotFoundError(_MISSING, text)


async def _listall(
    name: str | None = None,
    created_after: datetime | None = None,
    limit: int = -1,
    *,
    project: str | None = None,
    domain: str | None = None,
    source_run: str | None = None,
    source_action: str | None = None,
    source_external_ref: str | None = None,
    kind: Kind | None = None,
    attrs: Mapping[str, str | Sequence[str]] | None = None,
    latest_per_partition: bool = False,
    partitions: Mapping[str, Any] | None = None,
    **partition_kwargs: Any,
) -> AsyncIterator[Artifact]:
    """Yield versions, newest first; everything that is given must hold.

    Args:
        name: Of the artifact; None: of all.
        created_after: Later than this.
        limit: So many at most; below 0: all.
        project: Instead of the current one.
        domain: Instead of the current one.
        source_run: Name or id of the run that made them.
        source_action: Name of the action that made them.
        source_external_ref: Where they come from, elsewhere.
        kind: What they are.
        attrs: Attributes, each with its value or one of several.
        latest_per_partition: Of each partition the newest only.
        partitions: A value, a list of strings, or a pair of times with all between them.
        partition_kwargs: The same.

    Raises:
        ValueError: `latest_per_partition` without a name, or a selection that means nothing.
    """
    if latest_per_partition and name is None:
        raise ValueError("latest_per_partition requires an artifact name")
    wanted: dict[str, tuple[str, ...]] = {} if kind is None else {KIND_KEY: (kind,)}
    for key, value in (attrs or {}).items():
        values = (value,) if isinstance(value, str) else tuple(value)
        if values:
            wanted[key] = (*wanted.get(key, ()), *values)
    query = FindArtifacts(
        *place_of(project, domain),
        name or "",
        created_after_ms=-1 if created_after is None else ms_of(to_utc(created_after)),
        source_run=source_run or "",
        source_action=source_action or "",
        external_ref=source_external_ref or "",
        attrs=tuple(wanted.items()),
        partitions=conditions_of({**(partitions or {}), **partition_kwargs}),
        latest_per_partition=latest_per_partition,
    )
    async for version in _each(query, limit):
        yield Artifact(version)


async def _each(query: FindArtifacts, limit: int) -> AsyncIterator[ArtifactVersion]:
    left = limit
    while left:
        page = msgspec.structs.replace(query, limit=max(left, 0))
        answered = await answer(page)
        for version in answered.versions:
            yield version
        if not answered.next:
            return
        query = msgspec.structs.replace(query, skip=answered.next)
        left -= len(answered.versions) if left > 0 else 0


async def _list_names(
    search: str | None = None,
    limit: int = -1,
    *,
    project: str | None = None,
    domain: str | None = None,
) -> AsyncIterator[ArtifactGroup]:
    """Yield artifacts with their newest version, newest activity first.

    Args:
        search: Part of the name.
        limit: So many at most; below 0: all.
        project: Instead of the current one.
        domain: Instead of the current one.
    """
    skip, left = 0, limit
    while left:
        question = FindNames(*place_of(project, domain), search or "", skip, max(left, 0))
        answered = await answer(question)
        for group in answered.groups:
            yield ArtifactGroup(group)
        if not answered.next:
            return
        skip = answered.next
        left -= len(answered.groups) if left > 0 else 0


async def _get_schema(
    name: str, *, project: str | None = None, domain: str | None = None
) -> PartitionSchema:
    """Return the keys of an artifact's partitions; without any: an empty one.

    Raises:
        ArtifactNotFoundError: It has neither a declaration nor a version.
    """
    place = place_of(project, domain)
    answered = await answer(FindNames(*place, name, exact=True))
    for group in answered.groups:
        return schema_of(group.keys, declared=group.declared)
    raise ArtifactNotFoundError(_MISSING, f"No artifact {name!r} exists in {'/'.join(place)}")


async def _declare(
    name: str,
    partitions: Mapping[str, Any],
    *,
    project: str | None = None,
    domain: str | None = None,
) -> PartitionSchema:
    """Fix the keys of an artifact's partitions ahead of its first version.

    Args:
        name: Of the artifact.
        partitions: Key and kind: `date` or "day", `datetime` or "hour", "week", "month" for the
            stretch of time; `str` (or `int`) for a string.
        project: Instead of the current one.
        domain: Instead of the current one.

    Raises:
        ValueError: Two stretches of time, or a kind that there is not.
        RejectedError: `partition-mismatch`: the artifact has other keys.
    """
    keys = keys_of_spec(partitions)
    await answer(DeclareKeys(*place_of(project, domain), name, keys))
    return schema_of(keys, declared=True)


async def _partition_values(
    name: str,
    key: str,
    *,
    project: str | None = None,
    domain: str | None = None,
    limit: int = _VALUES_MAX,
    partitions: Mapping[str, Any] | None = None,
    **fixed: Any,
) -> list[Any]:
    """Return the values that one key has among an artifact's versions, in order.

    Args:
        name: Of the artifact.
        key: Of the partition; of the stretch of time, dates or (by the hour) datetimes come.
        project: Instead of the current one.
        domain: Instead of the current one.
        limit: So many at most.
        partitions: Only among versions of these partitions.
        fixed: The same.

    Raises:
        ArtifactNotFoundError: It has neither a declaration nor a version.
    """
    schema = await _get_schema(name, project=project, domain=domain)
    tests = conditions_of({**(partitions or {}), **fixed})
    query = FindArtifacts(*place_of(project, domain), name, partitions=tests)
    found = [version.spec async for version in _each(query, -1)]
    if key == schema.time_key:
        times = {spec.time.at_ms for spec in found if spec.time is not None}
        granularity = schema.granularity or "day"
        return [value_of_time(at_ms, granularity) for at_ms in sorted(times)[:limit]]
    return sorted({text for spec in found for known, text in spec.partitions if known == key})[
        :limit
    ]


Artifact.create = Asked(_create, "Artifact.create")
Artifact.get = Asked(_get, "Artifact.get")
Artifact.listall = AskedEach(_listall, "Artifact.listall")
Artifact.list_names = AskedEach(_list_names, "Artifact.list_names")
Artifact.get_schema = Asked(_get_schema, "Artifact.get_schema")
Artifact.declare = Asked(_declare, "Artifact.declare")
Artifact.partition_values = Asked(_partition_values, "Artifact.partition_values")

__all__ = ["Artifact"]
