"""Artifacts: what may be published, and what a new version starts.

A version becomes one event of the shard, which names the triggers that it starts. What an
attempt produced is published in the tick of its success, behind it in the log; whatever a
leader's death leaves undone is in the state (`unpublished`, `firings`) and done by the next one.
"""

from typing import Final, TypeAlias

import msgspec

from millstream_events import model as m
from millstream_events.artifacts import (
    ARTIFACT_VERSIONS_MAX,
    ARTIFACTS_MAX,
    NAME_CHARS_MAX,
    PARENTS_MAX,
    REFUSED_NOTE,
    SPEC_BYTES_MAX,
    ArtifactSpec,
    ArtifactVersion,
    PartitionKeys,
    artifact_key,
    key_of_version,
    keys_of,
    same_keys,
)
from millstream_events.codec import encode
from millstream_events.commands import DeclareArtifact, PublishArtifact
from millstream_events.ids import show_action
from millstream_events.partitions import fires_for
from millstream_events.state import ShardState
from millstream_scheduler.triggers import fire_for_artifact
from millstream_scheduler.turn import Turn

REGISTRATIONS: Final = (PublishArtifact, DeclareArtifact)
#: Code and text of a refusal.
Refusal: TypeAlias = tuple[str, str]


def hear_artifact(turn: Turn, command: PublishArtifact | DeclareArtifact) -> Refusal | None:
    """Carry out one of `REGISTRATIONS`; return why not, or None once it is recorded."""
    if isinstance(command, DeclareArtifact):
        place = (command.project, command.domain, command.name)
        return declare(turn, *place, command.keys, who=command.who, source=command.command)
    version = ArtifactVersion(
        command.spec, command.project, command.domain, turn.now_ms, command.who
    )
    return publish(turn, version, source=command.command)


def declare(
    turn: Turn,
    project: str,
    domain: str,
    name: str,
    keys: PartitionKeys,
    *,
    who: str,
    source: bytes = b"",
) -> Refusal | None:
    """Fix the partition keys of an artifact; return why not."""
    line = turn.state.artifacts.get(artifact_key(project, domain, name))
    if not name or len(name) > NAME_CHARS_MAX:
        return "invalid", f"an artifact's name has 1 to {NAME_CHARS_MAX} characters"
    if line is not None and not same_keys(line.keys, keys):
        return "partition-mismatch", _mismatch(name, line.keys, keys)
    if line is None and len(turn.state.artifacts) >= ARTIFACTS_MAX:
        return "invalid", f"there are {ARTIFACTS_MAX} artifacts, the most"
    if line is None or not line.declared:
        event = m.ArtifactDeclared(
            0, source=source, project=project, domain=domain, name=name, keys=keys, who=who,
            at_ms=turn.now_ms,
        )  # fmt: skip
        turn.record_shard(event)
    return None


def publish(turn: Turn, version: ArtifactVersion, *, source: bytes = b"") -> Refusal | None:
    """Record a version, and which triggers it starts; return why not.

    One that is there already, the same in everything, is accepted and not recorded again.
    """
    if (refusal := refusal_of(turn.state, version)) is not None:
        return refusal
    if not _is_known(turn.state, version):
        _record(turn, version, source=source)
    return None


def settle_artifacts(turn: Turn) -> None:
    """Publish what succeeded actions have produced, and start what new versions start."""
    if turn.state.unpublished:
        # The success must be in the log before what follows from it.
        turn.seal()
        for key in list(turn.state.unpublished):
            for version in list(turn.state.unpublished[key]):
                _publish_produced(turn, key, version)
    for awaited in list(turn.state.firings.values()):
        fire_for_artifact(turn, awaited)


def _publish_produced(turn: Turn, key: str, waiting: ArtifactVersion) -> None:
    spec = waiting.spec
    made = spec.version or _version_of(waiting)
    version = msgspec.structs.replace(
        waiting, spec=msgspec.structs.replace(spec, version=made), created_ms=turn.now_ms
    )
    refusal = refusal_of(turn.state, version)
    if refusal is None and not _is_known(turn.state, version):
        _record(turn, version, settles=key)
        return
    why = "" if refusal is None else refusal[1]
    published = None if refusal is None else version
    event = m.ArtifactPublished(0, published=published, settles=key, refused=why)
    turn.record_shard(event)
    run = turn.state.runs.get(version.run)
    if why and run is not None:
        text = f"{spec.slot} as {spec.name}@{made}: {why}"
        turn.record(run, m.RunAnnotated(0, entries=((REFUSED_NOTE, text),)))


def _version_of(waiting: ArtifactVersion) -> str:
    slot = "" if waiting.spec.slot in ("", "o0") else f"-{waiting.spec.slot}"
    return f"{waiting.run}-{show_action(waiting.action)}-{waiting.attempt}{slot}"


def _record(
    turn: Turn, version: ArtifactVersion, *, source: bytes = b"", settles: str = ""
) -> None:
    starts = tuple(
        key
        for key, state in turn.state.triggers.items()
        if state.active
        and (pattern := state.trigger.artifact) is not None
        and (state.trigger.project, state.trigger.domain, pattern.name)
        == (version.project, version.domain, version.name)
        and fires_for(pattern, version)
    )
    event = m.ArtifactPublished(0, source=source, published=version, starts=starts, settles=settles)
    turn.record_shard(event)


def _is_known(state: ShardState, version: ArtifactVersion) -> bool:
    line = state.artifacts.get(key_of_version(version))
    return line is not None and version.version in line.versions


def refusal_of(state: ShardState, version: ArtifactVersion) -> Refusal | None:
    """Return why a version may not be published; None: it may, or it is there already."""
    spec = version.spec
    if (flaw := _flaw(version)) is not None:
        return "invalid", flaw
    line = state.artifacts.get(key_of_version(version))
    if line is None:
        if len(state.artifacts) >= ARTIFACTS_MAX:
            return "invalid", f"there are {ARTIFACTS_MAX} artifacts, the most"
    elif (known := line.versions.get(spec.version)) is not None:
        if known.spec == spec:
            return None
        text = f"artifact {spec.name} has a version {spec.version!r} with other content"
        return "artifact-taken", text
    elif not same_keys(line.keys, keys_of(spec)):
        return "partition-mismatch", _mismatch(spec.name, line.keys, keys_of(spec))
    if state.artifact_versions >= ARTIFACT_VERSIONS_MAX:
        return "invalid", f"there are {ARTIFACT_VERSIONS_MAX} versions of artifacts, the most"
    return None


def _flaw(version: ArtifactVersion) -> str | None:
    spec = version.spec
    if not spec.name or not spec.version:
        return "an artifact has a name and a version"
    if len(spec.name) > NAME_CHARS_MAX or len(spec.version) > NAME_CHARS_MAX:
        return f"the name and the version of an artifact have at most {NAME_CHARS_MAX} characters"
    if len(spec.parents) > PARENTS_MAX:
        return f"a version of an artifact has at most {PARENTS_MAX} parents"
    if any(_is_self(version, spec, index) for index in range(len(spec.parents))):
        return f"version {spec.version!r} of artifact {spec.name} names itself as a parent"
    size_bytes = len(encode(spec))
    if size_bytes > SPEC_BYTES_MAX:
        return f"the artifact's description takes {size_bytes} bytes of {SPEC_BYTES_MAX}"
    return None


def _is_self(version: ArtifactVersion, spec: ArtifactSpec, index: int) -> bool:
    parent = spec.parents[index]
    return (
        parent.version == spec.version
        and parent.name in ("", spec.name)
        and parent.project in ("", version.project)
        and parent.domain in ("", version.domain)
    )


def _mismatch(name: str, has: PartitionKeys, given: PartitionKeys) -> str:
    return (
        f"artifact {name} has the partitions {_show(has)}, not {_show(given)}; other partitions "
        f"are another artifact"
    )


def _show(keys: PartitionKeys) -> str:
    time = (f"{keys.time_key} (by {keys.granularity})",) if keys.time_key else ()
    return ", ".join((*time, *keys.keys)) or "(none)"
