"""What clients ask: one function for each command. A refusal says why and changes nothing."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from millstream_events import model as m
from millstream_events.commands import (
    AbortAction,
    AbortRun,
    Accepted,
    AgentDescribed,
    AnnotateRun,
    ClientBatch,
    Command,
    ConfigureQueue,
    DeleteQueue,
    DescribeShard,
    PauseRun,
    Rejected,
    ResolveName,
    ResumeRun,
    ShardDescribed,
    SignalCondition,
    SubmitRun,
    WatchRun,
)
from millstream_events.ids import is_run_id
from millstream_events.names import name_flaw
from millstream_events.phases import State
from millstream_events.queues import QUEUES_MAX, QueueSettings, queue_flaw, with_queue
from millstream_events.reports import BeginNothing
from millstream_events.state import RunState, name_key
from millstream_scheduler import early_runs
from millstream_scheduler.caching import in_force, resume
from millstream_scheduler.conditions import signal
from millstream_scheduler.graphs import graph_flaw
from millstream_scheduler.hear_deploys import DEPLOYS, hear_deploy
from millstream_scheduler.outcomes import abort_action, abort_run, run_released
from millstream_scheduler.placement import Seat
from millstream_scheduler.publishing import REGISTRATIONS, hear_artifact
from millstream_scheduler.queues import FULL_RETRY_MS
from millstream_scheduler.sizes import PAYLOAD_BYTES_MAX, command_bytes
from millstream_scheduler.sources import REUSING_MODES, NoSource, Reading, reuses
from millstream_scheduler.turn import Turn

#: What a client is told to wait when the shard cannot take more.
BUSY_RETRY_MS: Final = 200
NOTHING_READ: Final[Mapping[str, Reading]] = {}
_ORIGIN_MODES: Final = frozenset({"rerun", *REUSING_MODES})


def hear_commands(
    turn: Turn,
    batch: ClientBatch,
    *,
    overloaded: bool,
    node: str,
    sources: Mapping[str, Reading] = NOTHING_READ,
) -> None:
    """Carry out what one client asks.

    Args:
        turn: The tick.
        batch: Commands in the order in which the client sent them.
        overloaded: New runs are answered `busy`.
        node: Name and pid of this leader, for `DescribeShard`.
        sources: What was read for the submissions that recover earlier runs.
    """
    watched = {command.run for command in batch.items if isinstance(command, WatchRun)}
    for command in batch.items:
        size_bytes = command_bytes(command)
        if size_bytes > PAYLOAD_BYTES_MAX:
            text = f"the command takes {size_bytes} bytes; the limit is {PAYLOAD_BYTES_MAX}"
            _refuse(turn, batch.sender, command, "too-large", text)
        elif isinstance(command, SubmitRun):
            _submit(turn, batch, command, watched, overloaded=overloaded, sources=sources)
            if batch.agent and command.run not in turn.state.runs:
                early_runs.refused(turn, command)
        elif isinstance(command, (*DEPLOYS, *REGISTRATIONS)):
            refusal = (
                hear_deploy(turn, command)
                if isinstance(command, DEPLOYS)
                else hear_artifact(turn, command)
            )
            if refusal is None:
                accepted = Accepted(command.command, "", turn.state.rev)
                turn.effects.clients_durable[batch.sender].append(accepted)
            else:
                _refuse(turn, batch.sender, command, *refusal)
        elif isinstance(command, DescribeShard):
            _describe(turn, batch.sender, command, node)
        else:
            _COMMANDS[type(command)](turn, batch.sender, command)


def _submit(
    turn: Turn,
    batch: ClientBatch,
    command: SubmitRun,
    watched: set[str],
    *,
    overloaded: bool,
    sources: Mapping[str, Reading],
) -> None:
    client = batch.sender
    if not is_run_id(command.run):
        _refuse(turn, client, command, "invalid", f"{command.run[:80]!r} is no run id")
        return
    for what in ("name", "project", "domain"):
        given: str = getattr(command, what)
        if given and (flaw := name_flaw(given)):
            _refuse(turn, client, command, "invalid", f"the run's {what} must {flaw}")
            return
    run_id = command.run
    if command.name:
        # An alias is unique inside its project; the first run that had it keeps it.
        run_id = turn.state.names.get(name_key(command.project, command.name), run_id)
    run = turn.state.runs.get(run_id)
    if run is not None and run.rev:
        if run.body != command.body:
            text = f"a run named {command.name!r} exists ({run_id}) and asks for something else"
            _refuse(turn, client, command, "name-taken", text)
        else:
            _accept(turn, client, command.command, run)
        return
    if overloaded:
        _refuse(turn, client, command, "busy", "the shard has too much in flight", BUSY_RETRY_MS)
        return
    if (missing := _source_flaw(turn, command, sources)) is not None:
        wait_ms = BUSY_RETRY_MS if missing.code == "busy" else 0
        _refuse(turn, client, command, missing.code, missing.reason, wait_ms)
        return
    if (refusal := _why_not(turn, command)) is not None:
        _refuse(turn, client, command, *refusal)
        return
    run = turn.state.runs[run_id] = RunState(run_id)
    cache_key, cache_mode = in_force(command.settings, command.cache_key, command.cache_mode)
    turn.record(run, _created(client, command, run_id, cache_key, cache_mode))
    if command.notes:
        turn.record(run, m.RunAnnotated(0, entries=command.notes, who=command.who or client))
    turn.book.open_run(run)
    answer = Accepted(command.command, run_id, run.rev)
    if run_id not in watched or not turn.book.late.keep(client, answer, turn.now_ms):
        turn.effects.clients_durable[client].append(answer)
    early_runs.submitted(turn, batch, command)


def _why_not(turn: Turn, command: SubmitRun) -> tuple[str, str, int] | None:
    """Say by code, reason and pause why a run is not begun: a flaw of its plan, or its queue."""
    if flaw := graph_flaw(command.kind or "task", command.inputs):
        return "invalid", flaw, 0
    queue = "" if command.policy is None else command.policy.queue
    if turn.book.queues.settings.get(queue, QueueSettings()).draining:
        return "queue-draining", f"queue {queue!r} is being drained: it takes no new runs", 0
    if full := turn.book.full(queue):
        return "queue-full", full, FULL_RETRY_MS
    return None


def _created(
    client: str, command: SubmitRun, run_id: str, cache_key: bytes, cache_mode: int
) -> m.RunCreated:
    return m.RunCreated(
        0,
        source=command.command,
        run=run_id,
        project=command.project,
        domain=command.domain,
        name=command.name,
        task=command.task,
        inputs=command.inputs,
        policy=command.policy,
        bundle=command.bundle,
        body=command.body,
        labels=command.labels,
        who=command.who or client,
        origin=command.origin,
        deadline_ms=command.deadline_ms,
        cache_mode=cache_mode,
        cache_key=cache_key,
        context=command.context,
        settings=command.settings,
        kind=command.kind,
    )


def _source_flaw(turn: Turn, command: SubmitRun, sources: Mapping[str, Reading]) -> NoSource | None:
    """Say why a run cannot recover from what it names; None: it can, or recovers nothing."""
    origin = command.origin
    if origin is None:
        return None
    if origin.mode not in _ORIGIN_MODES or not is_run_id(origin.run):
        return NoSource("invalid", f"{origin.mode!r} of {origin.run[:80]!r} is no origin")
    if not reuses(origin) or origin.run in turn.book.sources:
        return None
    reading = sources.get(origin.run)
    if isinstance(reading, NoSource):
        return reading
    return NoSource("busy", f"run {origin.run} has not been read yet")


def _watch(turn: Turn, client: str, command: WatchRun) -> None:
    run = turn.state.runs.get(command.run)
    if run is None:
        _refuse(turn, client, command, "no-such-run", f"no run {command.run}")
    elif run.finished:
        turn.effects.clients_durable[client].append(run_released(run))
    else:
        turn.book.watchers.setdefault(run.id, set()).add(client)


def _abort_run(turn: Turn, client: str, command: AbortRun) -> None:
    run = _decidable(turn, client, command, command.run)
    if run is not None:
        abort_run(
            turn,
            run,
            who=command.who,
            why=command.reason or "aborted by request",
            timed_out=False,
            source=command.command,
        )
        _accept(turn, client, command.command, run)


def _abort_action(turn: Turn, client: str, command: AbortAction) -> None:
    run = _decidable(turn, client, command, command.run)
    if run is None:
        return
    # A finished run may have let go of its actions; there is nothing left to abort.
    if not run.finished:
        if not 0 <= command.action < len(run.actions):
            text = f"run {run.id} has no action a{command.action}"
            _refuse(turn, client, command, "no-such-action", text)
            return
        abort_action(
            turn,
            run,
            command.action,
            why="user",
            who=command.who,
            reason=command.reason,
            source=command.command,
        )
    _accept(turn, client, command.command, run)


def _pause(turn: Turn, client: str, command: PauseRun) -> None:
    run = _decidable(turn, client, command, command.run)
    if run is not None:
        if not run.paused and not run.finished:
            event = m.RunPaused(0, source=command.command, who=command.who, why=command.reason)
            turn.record(run, event)
            for agent in dict.fromkeys(action.agent for action in run.actions if action.token):
                turn.order_now(agent, BeginNothing(run.id))
        _accept(turn, client, command.command, run)


def _resume(turn: Turn, client: str, command: ResumeRun) -> None:
    run = _decidable(turn, client, command, command.run)
    if run is None:
        return
    if run.paused and not run.finished:
        event = m.RunResumed(0, source=command.command, who=command.who, why=command.reason)
        turn.record(run, event)
        for ordinal, action in enumerate(run.actions):
            if action.state in (State.READY, State.HELD) and run.id not in turn.book.expected:
                resume(turn, run, ordinal)
    _accept(turn, client, command.command, run)


def _signal(turn: Turn, client: str, command: SignalCondition) -> None:
    run = _decidable(turn, client, command, command.run)
    if run is None:
        return
    refusal = signal(turn, run, command)
    if refusal is None:
        _accept(turn, client, command.command, run)
    else:
        _refuse(turn, client, command, *refusal)


def _configure_queue(turn: Turn, client: str, command: ConfigureQueue) -> None:
    before = turn.book.queues.settings.get(command.name)
    if flaw := queue_flaw(command.name, command.settings):
        _refuse(turn, client, command, "invalid", flaw)
    elif before == command.settings:
        _accept_for_shard(turn, client, command.command)
    elif command.create and before is not None:
        text = f"a queue {command.name!r} exists with other settings"
        _refuse(turn, client, command, "name-taken", text)
    elif not command.create and before is None:
        _refuse(turn, client, command, "no-such-queue", f"no queue {command.name!r}")
    elif before is None and len(turn.book.queues.settings) >= QUEUES_MAX:
        _refuse(turn, client, command, "invalid", f"there are {QUEUES_MAX} queues, the most")
    else:
        _apply(turn, with_queue(turn.state.settings, command.name, command.settings))
        _accept_for_shard(turn, client, command.command)


def _delete_queue(turn: Turn, client: str, command: DeleteQueue) -> None:
    # One that is gone already may have been deleted by this very command.
    if command.name in turn.book.queues.settings:
        _apply(turn, with_queue(turn.state.settings, command.name, None))
    _accept_for_shard(turn, client, command.command)


def _apply(turn: Turn, settings: tuple[tuple[str, int], ...]) -> None:
    version = turn.state.config_version + 1
    turn.record_shard(m.ConfigApplied(0, version=version, settings=settings))
    turn.book.sort_again()


def _annotate(turn: Turn, client: str, command: AnnotateRun) -> None:
    run = _decidable(turn, client, command, command.run)
    if run is not None:
        event = m.RunAnnotated(0, source=command.command, entries=command.notes, who=command.who)
        turn.record(run, event)
        _accept(turn, client, command.command, run)


def _resolve(turn: Turn, client: str, command: ResolveName) -> None:
    run_id = turn.state.names.get(name_key(command.project, command.name))
    if run_id is None:
        text = f"no run is named {command.name!r} in project {command.project!r}"
        _refuse(turn, client, command, "no-such-run", text)
    else:
        _accept(turn, client, command.command, turn.state.runs[run_id])


def _describe(turn: Turn, client: str, command: DescribeShard, node: str) -> None:
    state = turn.state
    agents = tuple(_agent_described(turn, seat) for seat in turn.book.seats.values())
    name, _, pid = node.rpartition("#")
    turn.effects.clients_now[client].append(
        ShardDescribed(
            command.command,
            state.shard,
            name,
            state.epoch,
            int(pid),
            agents,
            runs_live=len(turn.book.depths),
            actions_queued=turn.book.ready_count,
        )
    )


def _agent_described(turn: Turn, seat: Seat) -> AgentDescribed:
    return AgentDescribed(
        seat.agent,
        seat.hello.pool,
        seat.hello.region,
        seat.hello.cluster,
        seat.hello.labels,
        seat.hello.slots,
        len(seat.live),
        seat.credit,
        (turn.monotonic_ns - seat.heard_ns) // 1_000_000,
        seat.hello.pid,
        seat.workers,
    )


def _decidable(turn: Turn, client: str, command: Command, run_id: str) -> RunState | None:
    run = turn.state.runs.get(run_id)
    if run is None:
        _refuse(turn, client, command, "no-such-run", f"no run {run_id}")
        return None
    if run.quarantine:
        _refuse(turn, client, command, "suspect-run", f"run {run_id}: {run.quarantine}")
        return None
    return run


def _accept_for_shard(turn: Turn, client: str, command: bytes) -> None:
    turn.effects.clients_durable[client].append(Accepted(command, "", turn.state.rev))


def _accept(turn: Turn, client: str, command: bytes, run: RunState) -> None:
    turn.effects.clients_durable[client].append(Accepted(command, run.id, run.rev))


def _refuse(
    turn: Turn, client: str, command: Command, code: str, reason: str, retry_ms: int = 0
) -> None:
    # Kept for audit, but for what a client repeats many times a second.
    if code not in ("busy", "queue-full"):
        turn.record_shard(
            m.CommandRejected(0, command=command.command[:16], code=code, by=client, reason=reason)
        )
    refusal = Rejected(command.command, code, reason, retry_ms)
    turn.effects.clients_now[client].append(refusal)


_COMMANDS: Final[Mapping[type[Command], Callable[[Turn, str, Any], None]]] = {
    WatchRun: _watch,
    AbortRun: _abort_run,
    AbortAction: _abort_action,
    PauseRun: _pause,
    ResumeRun: _resume,
    SignalCondition: _signal,
    ConfigureQueue: _configure_queue,
    DeleteQueue: _delete_queue,
    ResolveName: _resolve,
    AnnotateRun: _annotate,
}
