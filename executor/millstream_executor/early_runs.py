"""Runs that their client has sent here as well as to the leader: they begin at once, or not here.

As with calls that begin early (`eager`), the agent spends its own credit and draws the token. The
leader hears of both sides: of the run from its client, and of its beginning from us.
"""

from millstream_events.commands import ClientBatch, SubmitRun
from millstream_events.early import RunBegun, RunDeclined, may_begin_early
from millstream_events.ids import ROOT_ID, is_run_id, made_ms
from millstream_events.reports import Work
from millstream_events.values import DEFAULT_POLICY
from millstream_executor import eager
from millstream_executor.agent_state import AgentState
from millstream_executor.children import is_light
from millstream_executor.held import HeldAttempt


def hear(state: AgentState, batch: ClientBatch, now_ns: int) -> None:
    """Begin the runs that are submitted, or tell the leader that there is no room for them."""
    for command in batch.items:
        if not isinstance(command, SubmitRun) or (command.run, ROOT_ID) in state.current:
            continue
        if _may_begin(state, command, now_ns):
            _begin(state, command, now_ns)
        else:
            state.notes.append(RunDeclined(command.run))


def _may_begin(state: AgentState, command: SubmitRun, now_ns: int) -> bool:
    if not (eager.has_room(state, now_ns) and may_begin_early(command) and is_run_id(command.run)):
        return False
    bundle = command.task.code_in(command.bundle)
    if bundle and bundle not in state.bundles:
        return False
    return state.has_slot(light=is_light(command.policy))


def _begin(state: AgentState, command: SubmitRun, now_ns: int) -> None:
    generation, token = eager.spend(state, now_ns), eager.new_token(state)
    attempt = HeldAttempt(
        work=_work_of(command, token, generation),
        token=token,
        queued_ns=now_ns,
        light=is_light(command.policy),
        call_number=state.outbox.next,
    )
    state.hold(attempt)
    state.enqueue(attempt, now_ns)
    state.report(RunBegun(command.run, token, generation), now_ns)


def _work_of(command: SubmitRun, token: bytes, generation: int) -> Work:
    """Return the order that the leader would send for the root of such a run."""
    return Work(
        generation,
        command.run,
        0,
        ROOT_ID,
        1,
        token,
        command.task,
        command.inputs,
        command.task.code_in(command.bundle),
        command.policy,
        project=command.project,
        domain=command.domain,
        context=command.context,
        run_started_ms=made_ms(command.run),
        limited=(command.policy or DEFAULT_POLICY).children_max > 0,
    )
