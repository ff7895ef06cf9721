"""The fold's rules for deployed tasks and triggers; see `fold`."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from millstream_events import model as m
from millstream_events.deployed import VERSIONS_MAX, Firing, key_of, task_key
from millstream_events.fold_artifacts import forget_firings, note_artifact_firing
from millstream_events.state import DeployedVersion, ShardState, TriggerState


def _task_deployed(shard: ShardState, event: m.TaskDeployed) -> bool:
    task = event.deployed
    if task is None:
        return False
    key = task_key(task.project, task.domain, task.name)
    versions = shard.tasks.setdefault(key, [])
    if any(known.task.version == task.version for known in versions):
        return False
    versions.append(DeployedVersion(task, event.who, event.at_ms))
    del versions[:-VERSIONS_MAX]
    return True


def _trigger_deployed(shard: ShardState, event: m.TriggerDeployed) -> bool:
    trigger = event.defined
    if trigger is None:
        return False
    key = key_of(trigger)
    state = TriggerState(trigger, trigger.active, event.at_ms, event.at_ms, event.at_ms)
    known = shard.triggers.get(key)
    if known is not None:
        state.fired_ms, state.fired_run = known.fired_ms, known.fired_run
        if known.active and known.trigger.schedule == trigger.schedule:
            # Deploying new code neither skips a firing nor shifts an interval.
            state.since_ms, state.cursor_ms = known.since_ms, known.cursor_ms
    shard.triggers[key] = state
    return True


def _trigger_switched(shard: ShardState, event: m.TriggerSwitched) -> bool:
    state = shard.triggers.get(event.trigger)
    if state is None:
        return False
    if event.deleted:
        del shard.triggers[event.trigger]
        forget_firings(shard, event.trigger)
        return True
    if state.active == event.active:
        return False
    state.active = event.active
    if event.active:
        # What was due while it was inactive is not made up for.
        state.since_ms = state.cursor_ms = event.at_ms
    return True


def note_firing(shard: ShardState, fired: Firing, run: str) -> None:
    """Move a trigger's clock to the firing that has just become a run."""
    if fired.artifact:
        note_artifact_firing(shard, fired, run)
        return
    state = shard.triggers.get(fired.trigger)
    if state is not None and fired.at_ms > state.cursor_ms:
        state.cursor_ms = state.fired_ms = fired.at_ms
        state.fired_run = run


DEPLOYED_RULES: Final[Mapping[type[m.Event], Callable[[ShardState, Any], bool]]] = {
    m.TaskDeployed: _task_deployed,
    m.TriggerDeployed: _trigger_deployed,
    m.TriggerSwitched: _trigger_switched,
}
