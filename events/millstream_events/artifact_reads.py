"""What is asked about artifacts, answered from the folded state; pure.

Readers answer for themselves from the shard's own records, the leader answers attempts: both by
this code, so a task and a notebook see the same.
"""

from typing import Final

import msgspec

from millstream_events.artifacts import (
    ArtifactAnswer,
    ArtifactGroup,
    ArtifactVersion,
    FindArtifacts,
    FindNames,
    artifact_key,
    partition_of,
)
from millstream_events.ids import action_name, show_action
from millstream_events.partitions import passes
from millstream_events.state import ArtifactLine, ShardState, name_key

#: Versions, or artifacts, in one answer, and the bytes at which it ends early.
PAGE_MAX: Final = 100
PAGE_BYTES_MAX: Final = 32 * 1024
_encoder: Final = msgspec.msgpack.Encoder()


def find_version(
    state: ShardState, project: str, domain: str, name: str, version: str
) -> ArtifactVersion | None:
    """Return a version of an artifact; None: there is no such one."""
    line = state.artifacts.get(artifact_key(project, domain, name))
    return None if line is None else line.versions.get(version)


def find_artifacts(
    state: ShardState, query: FindArtifacts, *, paged: bool = True
) -> ArtifactAnswer:
    """Return the versions that `query` asks for, newest first: a page of them, or all."""
    named = state.names.get(name_key(query.project, query.source_run))
    if named is not None:
        query = msgspec.structs.replace(query, source_run=named)
    if query.name:
        line = state.artifacts.get(artifact_key(query.project, query.domain, query.name))
        lines = [] if line is None else [line]
    else:
        lines = _lines(state, query.project, query.domain)
    found = [
        version for line in lines for version in line.versions.values() if _fits(version, query)
    ]
    found.reverse()
    # Stable: of one moment the later one, in the log's order, stays first.
    found.sort(key=_created_ms, reverse=True)
    if query.latest_per_partition:
        newest: dict[tuple[object, ...], ArtifactVersion] = {}
        for version in found:
            newest.setdefault((version.name, partition_of(version.spec)), version)
        found = list(newest.values())
    if not paged:
        last = query.skip + query.limit if query.limit else len(found)
        return ArtifactAnswer(tuple(found[query.skip : last]))
    return _page_of_versions(found, query.skip, query.limit)


def find_names(state: ShardState, query: FindNames, *, paged: bool = True) -> ArtifactAnswer:
    """Return the artifacts that `query` asks for, newest activity first; a page, or all."""
    prefix = artifact_key(query.project, query.domain, "")
    groups = [
        _group(key.removeprefix(prefix), line)
        for key, line in state.artifacts.items()
        if key.startswith(prefix) and _is_called(key.removeprefix(prefix), query)
    ]
    groups.reverse()
    groups.sort(key=_latest_ms, reverse=True)
    most = min(query.limit or PAGE_MAX, PAGE_MAX) if paged else query.limit or len(groups)
    page = groups[query.skip : query.skip + most]
    following = query.skip + len(page)
    return ArtifactAnswer(groups=tuple(page), next=following if following < len(groups) else 0)


def _is_called(name: str, query: FindNames) -> bool:
    return name == query.search if query.exact else query.search in name


def _lines(state: ShardState, project: str, domain: str) -> list[ArtifactLine]:
    prefix = artifact_key(project, domain, "")
    return [line for key, line in state.artifacts.items() if key.startswith(prefix)]


def _created_ms(version: ArtifactVersion) -> int:
    return version.created_ms


def _latest_ms(group: ArtifactGroup) -> int:
    return -1 if group.latest is None else group.latest.created_ms


def _group(name: str, line: ArtifactLine) -> ArtifactGroup:
    versions = list(line.versions.values())
    slices = [version.spec.time.at_ms for version in versions if version.spec.time is not None]
    return ArtifactGroup(
        name,
        len(versions),
        versions[-1] if versions else None,
        line.keys,
        line.declared,
        max(slices, default=-1),
    )


def _fits(version: ArtifactVersion, query: FindArtifacts) -> bool:
    spec = version.spec
    if query.version and spec.version != query.version:
        return False
    if version.created_ms <= query.created_after_ms:
        return False
    if query.source_run and version.run != query.source_run:
        return False
    if query.source_action and query.source_action not in _names_of_action(version):
        return False
    if query.external_ref and spec.external_ref != query.external_ref:
        return False
    attrs = dict(spec.attrs)
    if any(attrs.get(key) not in values for key, values in query.attrs):
        return False
    return passes(version, query.partitions)


def _names_of_action(version: ArtifactVersion) -> tuple[str, ...]:
    return (show_action(version.action), action_name(version.action_id)) if version.run else ()


def _page_of_versions(found: list[ArtifactVersion], skip: int, limit: int) -> ArtifactAnswer:
    page: list[ArtifactVersion] = []
    size_bytes = 0
    for version in found[skip : skip + min(limit or PAGE_MAX, PAGE_MAX)]:
        size_bytes += len(_encoder.encode(version))
        if page and size_bytes > PAGE_BYTES_MAX:
            break
        page.append(version)
    following = skip + len(page)
    return ArtifactAnswer(tuple(page), next=following if following < len(found) else 0)
