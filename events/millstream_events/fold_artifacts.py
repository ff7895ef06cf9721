"""The fold's rules for artifacts; see `fold`.

Everything that readers need is in the shard's own records. What an attempt produces waits in
`unpublished`, from the event of its success to the one that publishes it, and a trigger that
was started waits in `firings` until its run is there: a leader that dies in between leaves
exactly these to its successor.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from millstream_events import model as m
from millstream_events.artifacts import (
    ArtifactSpec,
    ArtifactVersion,
    artifact_key,
    firing_key,
    key_of_version,
    keys_of,
)
from millstream_events.deployed import Firing
from millstream_events.state import ArtifactLine, Awaited, RunState, ShardState


def unpublished_key(run: str, action: int) -> str:
    """Return the key of what an action has produced in `ShardState.unpublished`."""
    return f"{run}/{action}"


def note_produced(
    shard: ShardState, run: RunState, action: int, attempt: int, produced: tuple[ArtifactSpec, ...]
) -> None:
    """Note what an action that has just succeeded is to publish."""
    action_id = run.actions[action].id
    shard.unpublished[unpublished_key(run.id, action)] = [
        ArtifactVersion(
            spec, run.project, run.domain, 0, run.who, run.id, action, attempt, action_id
        )
        for spec in produced
    ]


def _published(shard: ShardState, event: m.ArtifactPublished) -> bool:
    if event.settles:
        _settle(shard, event.settles)
    version = event.published
    if version is None or event.refused or not version.version:
        return False
    key = key_of_version(version)
    line = shard.artifacts.get(key)
    if line is None:
        line = shard.artifacts[key] = ArtifactLine(keys_of(version.spec))
    if version.version in line.versions:
        return False
    line.versions[version.version] = version
    shard.artifact_versions += 1
    for trigger in event.starts:
        if trigger in shard.triggers:
            shard.firings[firing_key(trigger, version)] = Awaited(trigger, version)
    return True


def _settle(shard: ShardState, key: str) -> None:
    waiting = shard.unpublished.get(key)
    if waiting:
        waiting.pop(0)
        if not waiting:
            del shard.unpublished[key]


def _declared(shard: ShardState, event: m.ArtifactDeclared) -> bool:
    key = artifact_key(event.project, event.domain, event.name)
    line = shard.artifacts.get(key)
    if event.keys is None or (line is not None and line.declared):
        return False
    if line is None:
        shard.artifacts[key] = ArtifactLine(event.keys, declared=True)
    else:
        line.keys, line.declared = event.keys, True
    return True


def note_artifact_firing(shard: ShardState, fired: Firing, run: str) -> None:
    """Note that the run which a trigger was to start for an artifact is there."""
    awaited = f"{fired.trigger}\x00{fired.artifact}\x00{fired.version}"
    shard.firings.pop(awaited, None)
    state = shard.triggers.get(fired.trigger)
    if state is not None:
        state.fired_ms, state.fired_run = fired.at_ms, run


def forget_firings(shard: ShardState, trigger: str) -> None:
    """Forget what a trigger that was deleted was still to start."""
    for key in [key for key, each in shard.firings.items() if each.trigger == trigger]:
        del shard.firings[key]


ARTIFACT_RULES: Final[Mapping[type[m.Event], Callable[[ShardState, Any], bool]]] = {
    m.ArtifactPublished: _published,
    m.ArtifactDeclared: _declared,
}
