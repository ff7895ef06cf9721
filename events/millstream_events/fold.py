"""The fold: the only code that changes state, live and in replay ("the log decides").

`apply` takes one event, `fold_entry` one stored frame. Both are total: a record that cannot
take effect is *void*; a record that cannot be understood quarantines its run; neither raises,
and no other run is touched. The rules F1-F13 are those of architecture.md 1.6:

F1  Order is stream sequence, then position in the frame; timestamps order nothing.
F2  A frame of a lower epoch than the highest announced is void.
F3  A frame whose (epoch, number) was folded already is void (a republish after a lost ack).
F4  `rev` and `prev` must continue the run; otherwise the run is quarantined and folding goes on.
F5  The first terminal event of an action wins; whatever comes later is void.
F6  A report counts only under the token of the action's current dispatch.
F7  Abort against success: whichever is first in the log. A late success is kept as discarded.
F8  Timeout against success: the same.
F9  A request whose id is known is void: a parent replays.
F10 A second dispatch counts only if the first was lost, returned or evicted.
F11 A run ends only when its root is terminal and nothing is open.
F12 Settings that decisions use are folded too.
F13 A new leader changes nothing about attempts that are out; agents introduce themselves.
"""

from collections.abc import Callable, Mapping
from sys import intern
from typing import Any, Final

from millstream_events import model as m
from millstream_events import sharing
from millstream_events.codec import OpaqueFrame, decode_frame
from millstream_events.errors import LogCorruptError
from millstream_events.fold_actions import Place, apply_to_action, count_terminal
from millstream_events.fold_artifacts import ARTIFACT_RULES
from millstream_events.fold_deployed import DEPLOYED_RULES, note_firing
from millstream_events.ids import ROOT_ID, chain_hash
from millstream_events.phases import TERMINAL_PHASES, Phase, State
from millstream_events.ports import LogEntry
from millstream_events.state import ActionState, AgentRecord, RunState, ShardState, name_key
from millstream_events.subjects import SHARD_KEY
from millstream_events.values import Items, TaskRef

#: No run gets this far; revisions above are damage, and would not fit a snapshot's integers.
REV_MAX: Final = 2**62


def apply(shard: ShardState, run: RunState, event: m.Event, ts_ns: int) -> bool:
    """Fold the next event of `run`, and say whether it took effect.

    The event gets revision `run.rev` + 1 whether it took effect or not.
    """
    run.rev += 1
    rule = _RUN_RULES.get(type(event))
    place = Place(shard, run, ts_ns, run.rev)
    effective = apply_to_action(place, event) if rule is None else rule(place, event)
    if not effective:
        run.voids += 1
    return effective


def apply_shard(shard: ShardState, event: m.Event) -> bool:
    """Fold the next event of the shard itself, and say whether it took effect."""
    shard.rev += 1
    rule = _SHARD_RULES.get(type(event))
    return rule is not None and rule(shard, event)


def fold_entry(shard: ShardState, entry: LogEntry) -> bool:
    """Fold one stored frame, and say whether it counted (rules F2, F3: void otherwise)."""
    shard.seq = entry.seq
    try:
        frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
    except LogCorruptError as exc:
        _quarantine(shard, entry.key, str(exc))
        return False
    if _is_void(shard, entry.key, frame):
        shard.void_frames += 1
        return False
    doubt = _doubt(shard, entry.key, frame)
    if doubt:
        _quarantine(shard, entry.key, doubt)
        return False
    if frame.epoch > shard.epoch:
        shard.epoch = frame.epoch
        shard.number = 0
    shard.number = max(shard.number, frame.number)
    shard.ts_ns = max(shard.ts_ns, frame.ts_ns)
    if isinstance(frame, OpaqueFrame):
        _skip_opaque(shard, entry, frame)
    elif entry.key == SHARD_KEY:
        _fold_shard_frame(shard, entry, frame)
    else:
        _fold_run_frame(shard, entry, frame)
    return True


def _is_void(shard: ShardState, key: str, frame: m.Frame | OpaqueFrame) -> bool:
    if frame.epoch != shard.epoch:
        return frame.epoch < shard.epoch
    if frame.number > shard.number:
        return False
    # F3 by what the frame would continue as well: one damaged number, too high, must not void
    # the frames of all other runs that follow.
    run = shard.runs.get(key)
    rev = shard.rev if key == SHARD_KEY else run.rev if run is not None else 0
    return frame.rev <= rev


def _doubt(shard: ShardState, key: str, frame: m.Frame | OpaqueFrame) -> str:
    """Say why the frame cannot be from a leader; empty: nothing speaks against it."""
    if not 1 <= frame.rev <= REV_MAX:
        return f"impossible revision {frame.rev}"
    # A log of one run alone has no announcements, so its frames are taken at their word.
    if key != SHARD_KEY and frame.epoch > shard.epoch and shard.leader:
        return f"epoch {frame.epoch} was never announced"
    return ""


def _fold_run_frame(shard: ShardState, entry: LogEntry, frame: m.Frame) -> None:
    run = shard.runs.get(entry.key)
    if run is None:
        run = shard.runs[entry.key] = RunState(entry.key)
    if frame.rev != run.rev + 1:
        _quarantine(shard, entry.key, f"revision {frame.rev} follows {run.rev}")
    elif frame.prev != run.chain:
        _quarantine(shard, entry.key, f"broken chain at revision {frame.rev}")
    if run.quarantine:
        run.rev = frame.rev + len(frame.events) - 1
    else:
        for event in frame.events:
            apply(shard, run, event, frame.ts_ns)
    run.chain = chain_hash(entry.payload)


def _fold_shard_frame(shard: ShardState, entry: LogEntry, frame: m.Frame) -> None:
    if frame.rev != shard.rev + 1 or frame.prev != shard.chain:
        shard.unknown = shard.unknown or f"broken chain of the shard at sequence {entry.seq}"
        shard.rev = frame.rev - 1
    for event in frame.events:
        apply_shard(shard, event)
    shard.chain = chain_hash(entry.payload)


def _skip_opaque(shard: ShardState, entry: LogEntry, frame: OpaqueFrame) -> None:
    _quarantine(shard, entry.key, f"a record from a newer version at sequence {entry.seq}")
    if entry.key == SHARD_KEY:
        shard.rev = frame.rev + len(frame.events) - 1
        shard.chain = chain_hash(entry.payload)
        return
    run = shard.runs[entry.key]
    run.rev = frame.rev + len(frame.events) - 1
    run.chain = chain_hash(entry.payload)


def _quarantine(shard: ShardState, key: str, why: str) -> None:
    if key == SHARD_KEY:
        shard.unknown = shard.unknown or why
        return
    run = shard.runs.get(key)
    if run is None:
        run = shard.runs[key] = RunState(key)
    run.quarantine = run.quarantine or why


# ------------------------------------------------------------------ runs


def _run_created(place: Place, event: m.RunCreated) -> bool:
    run = place.run
    if run.actions or run.finished:
        return False
    run.project, run.domain = intern(event.project), intern(event.domain)
    run.name, run.who = event.name, intern(event.who)
    run.bundle, run.body = sharing.one_digest(event.bundle), event.body
    run.labels, run.context = sharing.one_mapping(event.labels), sharing.one_mapping(event.context)
    run.settings = sharing.one_mapping(event.settings)
    run.parent_run, run.origin = event.parent_run, event.origin
    run.deadline_ms = event.deadline_ms
    run.created_ns = place.ts_ns
    root = ActionState(
        ROOT_ID,
        0,
        intern(event.kind) or "task",
        sharing.one_task(event.task),
        sharing.with_one_codec(event.inputs),
        policy=sharing.one_policy(event.policy),
        cache_key=event.cache_key,
        cache_mode=event.cache_mode,
        requested_ns=place.ts_ns,
        ready_ns=place.ts_ns,
        last_rev=place.rev,
    )
    run.actions.append(root)
    run.ordinals[ROOT_ID] = 0
    run.open_actions = 1
    if event.name:
        place.shard.names[name_key(event.project, event.name)] = run.id
    if event.fired is not None:
        run.fired = event.fired
        note_firing(place.shard, event.fired, run.id)
    return True


def _run_paused(place: Place, event: m.RunPaused) -> bool:
    run = place.run
    del event
    if run.finished or run.paused:
        return False
    run.paused = True
    return True


def _run_resumed(place: Place, event: m.RunResumed) -> bool:
    run = place.run
    del event
    if run.finished or not run.paused:
        return False
    run.paused = False
    for action in run.actions:
        if action.state in (State.READY, State.HELD):
            # What was waited before the pause, and during it, is charged to nobody.
            action.ready_ns = place.ts_ns
    return True


def _run_abort_requested(place: Place, event: m.RunAbortRequested) -> bool:
    run = place.run
    if run.finished or run.aborting:
        return False
    run.aborting = True
    run.abort_timed_out = event.timed_out
    run.abort_who, run.abort_why = event.who, event.why
    return True


def _run_finished(place: Place, event: m.RunFinished) -> bool:
    run = place.run
    # F11: the root is terminal and nothing is open.
    if run.finished or not run.actions or run.open_actions:
        return False
    if event.phase not in TERMINAL_PHASES:
        return False
    run.phase = Phase(event.phase)
    run.output, run.error = sharing.with_one_codec(event.output), event.error
    run.ended_ns = place.ts_ns
    return True


def _run_annotated(place: Place, event: m.RunAnnotated) -> bool:
    run = place.run
    if event.value is None:
        run.notes += event.entries
        return True
    # A finished run may have let go of its actions, so nothing is kept with them any more.
    known = not run.finished and 0 <= event.action < len(run.actions)
    if not known or len(event.entries) != 1:
        return False
    action = run.actions[event.action]
    action.kept = {**action.kept, event.entries[0][0]: event.value}
    return True


# ------------------------------------------------------------------ new actions


def _add_action(run: RunState, ordinal: int, action: ActionState) -> bool:
    # Ordinals are dense and ids unique (F9); the parent must exist.
    if ordinal != len(run.actions) or action.id in run.ordinals:
        return False
    if run.finished or not 0 <= action.parent < ordinal:
        return False
    parent = run.actions[action.parent]
    if parent.terminal and not action.rules.detached:
        return False
    # An abort is a barrier for what is below it too; what a step has done is still recorded.
    if parent.state == State.ABORTING and not action.terminal:
        return False
    # Nodes are the leader's own requests, made while it walks their plan.
    if action.node and parent.state != State.WALKING:
        return False
    run.actions.append(action)
    run.ordinals[action.id] = ordinal
    if parent.children:
        parent.children.append(ordinal)
    else:
        parent.children = [ordinal]
    if not action.terminal:
        run.open_actions += 1
        parent.open_children += 1
    return True


def _action_requested(place: Place, event: m.ActionRequested) -> bool:
    run = place.run
    if run.aborting:
        return False
    return _add_action(
        run,
        event.action,
        ActionState(
            event.id,
            event.parent,
            intern(event.kind),
            sharing.one_task(event.task),
            sharing.with_one_codec(event.inputs),
            inputs_hash=event.inputs_hash,
            group=intern(event.group),
            k=event.k,
            policy=sharing.one_policy(event.policy),
            cache_key=event.cache_key,
            cache_mode=event.cache_mode,
            requested_ns=place.ts_ns,
            ready_ns=place.ts_ns,
            last_rev=place.rev,
            items=Items(event.items) if event.kind == "map" and event.items > 0 else None,
            node=event.node,
        ),
    )


def _trace_recorded(place: Place, event: m.TraceRecorded) -> bool:
    run = place.run
    # F6: a trace of a superseded attempt is void.
    if not event.token or not 0 <= event.parent < len(run.actions):
        return False
    if run.actions[event.parent].token != event.token:
        return False
    failed = event.error is not None
    added = _add_action(
        run,
        event.action,
        ActionState(
            event.id,
            event.parent,
            "trace",
            TaskRef(event.name),
            None,
            state=State.FAILED if failed else State.SUCCEEDED,
            inputs_hash=event.inputs_hash,
            output=event.output,
            error=event.error,
            requested_ns=event.started_ns,
            started_ns=event.started_ns,
            ended_ns=event.ended_ns,
            ended_rev=place.rev,
            last_rev=place.rev,
        ),
    )
    if added:
        count_terminal(run, State.FAILED if failed else State.SUCCEEDED)
    return added


def _timer_set(place: Place, event: m.TimerSet) -> bool:
    run = place.run
    return not run.aborting and _add_action(
        run,
        event.action,
        ActionState(
            event.id,
            event.parent,
            "timer",
            TaskRef("sleep"),
            None,
            state=State.WAITING,
            due_ms=event.due_ms,
            requested_ns=place.ts_ns,
            started_ns=place.ts_ns,
            last_rev=place.rev,
        ),
    )


def _condition_opened(place: Place, event: m.ConditionOpened) -> bool:
    run = place.run
    extras = event.extras
    more = () if extras is None else (extras.prompt_type, extras.description, extras.payload)
    return not run.aborting and _add_action(
        run,
        event.action,
        ActionState(
            event.id,
            event.parent,
            "condition",
            TaskRef(event.name),
            None,
            state=State.WAITING,
            due_ms=event.due_ms,
            condition=(event.name, event.type, event.prompt, event.webhook, *more),
            group="" if extras is None else extras.group,
            requested_ns=place.ts_ns,
            started_ns=place.ts_ns,
            last_rev=place.rev,
        ),
    )


_RUN_RULES: Final[Mapping[type[m.Event], Callable[[Place, Any], bool]]] = {
    m.RunCreated: _run_created,
    m.RunPaused: _run_paused,
    m.RunResumed: _run_resumed,
    m.RunAbortRequested: _run_abort_requested,
    m.RunFinished: _run_finished,
    m.RunAnnotated: _run_annotated,
    m.ActionRequested: _action_requested,
    m.TraceRecorded: _trace_recorded,
    m.TimerSet: _timer_set,
    m.ConditionOpened: _condition_opened,
}


# ------------------------------------------------------------------ the shard itself


def _leader_elected(shard: ShardState, event: m.LeaderElected) -> bool:
    shard.leader = event.node
    shard.features = sorted({*shard.features, *event.features})
    return True


def _config_applied(shard: ShardState, event: m.ConfigApplied) -> bool:
    shard.config_version = event.version
    shard.settings = dict(event.settings)
    return True


def _pool_seen(shard: ShardState, event: m.PoolSeen) -> bool:
    shard.agents[event.agent] = AgentRecord(
        event.pool,
        event.region,
        event.cluster,
        event.labels,
        event.slots,
        event.incarnation,
    )
    return True


def _pool_gone(shard: ShardState, event: m.PoolLost | m.PoolDrained) -> bool:
    agent = shard.agents.get(event.agent)
    if agent is None or not agent.present:
        return False
    agent.present = False
    return True


def _inbox_consumed(shard: ShardState, event: m.InboxConsumed) -> bool:
    if event.seq <= shard.inbox_seq:
        return False
    shard.inbox_seq = event.seq
    return True


def _feature_barrier(shard: ShardState, event: m.FeatureBarrier) -> bool:
    features = set(shard.features) - {event.feature}
    shard.features = sorted({*features, event.feature} if event.on else features)
    return True


def _command_rejected(shard: ShardState, event: m.CommandRejected) -> bool:
    del event
    shard.rejected += 1
    return True


def _noted(shard: ShardState, event: m.Event) -> bool:
    del shard, event
    return True


def _run_archived(shard: ShardState, event: m.RunArchived) -> bool:
    run = shard.runs.get(event.run)
    if run is None or not run.finished:
        return False
    del shard.runs[event.run]
    alias = name_key(run.project, run.name)
    if shard.names.get(alias) == event.run:
        del shard.names[alias]
    return True


_SHARD_RULES: Final[Mapping[type[m.Event], Callable[[ShardState, Any], bool]]] = {
    m.LeaderElected: _leader_elected,
    m.SnapshotTaken: _noted,
    m.ConfigApplied: _config_applied,
    m.PoolSeen: _pool_seen,
    m.PoolLost: _pool_gone,
    m.PoolDrained: _pool_gone,
    m.InboxConsumed: _inbox_consumed,
    m.FeatureBarrier: _feature_barrier,
    m.CommandRejected: _command_rejected,
    m.RunArchived: _run_archived,
    **DEPLOYED_RULES,
    **ARTIFACT_RULES,
}
