"""Triggers: runs that the leader starts by itself.

When a time has come: the run's id follows from the trigger and the time, and the run's first
event moves the trigger's clock, so that a firing becomes one run however often leaders change.
Of the firings that were missed while nobody led, the latest one is made up for, and no other.

When a version of an artifact came: its event says which triggers it starts, and the first event
of each run settles that. No version is missed, and none starts two runs.
"""

import hashlib

from millstream_events import model as m
from millstream_events.artifacts import USED_NOTE, tracker_of
from millstream_events.deployed import Firing, inputs_at, inputs_for
from millstream_events.ids import RunId, new_run_id
from millstream_events.schedules import latest_until, show_utc
from millstream_events.state import Awaited, RunState, TriggerState
from millstream_events.values import Value
from millstream_scheduler.caching import look_up
from millstream_scheduler.timers import Due
from millstream_scheduler.turn import Turn


def run_of(shard: str, trigger: str, at_ms: int) -> RunId:
    """Return the id of the run that `trigger` starts at `at_ms`."""
    drawn = hashlib.blake2b(f"{trigger}\x00{at_ms}".encode(), digest_size=6).digest()
    bits = int.from_bytes(drawn)
    return new_run_id(now_ms=at_ms, random_bits=bits, region=shard[:2], shard=shard[2:])


def fire_trigger(turn: Turn, due: Due) -> None:
    """Start the run of the latest firing that is due, if there is one; set the next timer."""
    state = turn.state.triggers.get(due.run)
    if state is None or not state.active:
        return
    trigger, schedule = state.trigger, state.trigger.schedule
    if schedule is None:
        return
    at_ms = latest_until(schedule, turn.now_ms, state.cursor_ms, state.since_ms)
    if not at_ms:
        return  # Changed since the timer was set; what changed it has set another.
    run_id = run_of(turn.state.shard, due.run, at_ms)
    if run_id in turn.state.runs:
        return  # Somebody submitted a run under this very id.
    inputs = inputs_at(trigger, show_utc(at_ms))
    _start(turn, state, run_id, inputs, Firing(due.run, at_ms))
    turn.book.watch_trigger(due.run)


def fire_for_artifact(turn: Turn, awaited: Awaited) -> None:
    """Start the run of a trigger for a new version of an artifact."""
    version = awaited.version
    state = turn.state.triggers[awaited.trigger]
    cause = f"{awaited.trigger}\x00{version.name}\x00{version.version}"
    run_id = run_of(turn.state.shard, cause, version.created_ms)
    inputs = inputs_for(state.trigger, version)
    fired = Firing(awaited.trigger, turn.now_ms, version.name, version.version)
    run = _start(turn, state, run_id, inputs, fired)
    pattern = state.trigger.artifact
    note = USED_NOTE + ("" if pattern is None else pattern.value_input)
    turn.record(run, m.RunAnnotated(0, entries=((note, tracker_of(version)),)))


def _start(
    turn: Turn, state: TriggerState, run_id: RunId, inputs: Value | None, fired: Firing
) -> RunState:
    trigger = state.trigger
    run = turn.state.runs[run_id] = RunState(run_id)
    bundle = b"" if trigger.task.deployed is None else trigger.task.deployed.bundle
    turn.record(
        run,
        m.RunCreated(
            0,
            run=run_id,
            project=trigger.project,
            domain=trigger.domain,
            task=trigger.task,
            inputs=inputs,
            policy=trigger.policy,
            bundle=bundle,
            body=hashlib.blake2b(run_id.encode(), digest_size=16).digest(),
            labels=trigger.labels,
            who=trigger.who,
            cache_mode=trigger.cache_mode,
            cache_key=trigger.cache_key,
            context=trigger.context,
            fired=fired,
        ),
    )
    if trigger.notes:
        turn.record(run, m.RunAnnotated(0, entries=trigger.notes, who=trigger.who))
    turn.book.open_run(run)
    look_up(turn, run, 0)
    return run
