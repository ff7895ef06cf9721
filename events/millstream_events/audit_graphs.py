"""Audit rules about graphs: who may ask for a node, and when (I02, I04, I12)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from millstream_events import model as m
from millstream_events.audit_cache import keep
from millstream_events.audit_judge import Judge, ended_already
from millstream_events.audit_records import ActionNote, PlanNote, Standing, value_hash
from millstream_events.phases import SUCCESS_PHASES, Phase
from millstream_events.plans import KIND_GRAPH, plan_call, plan_flaw, sources_of
from millstream_events.values import Value


def plan_note(kind: str, inputs: Value | None) -> PlanNote | None:
    """Return what is to be remembered of a graph's plan; None: it is no graph, or has none."""
    call = plan_call(inputs) if kind == KIND_GRAPH else None
    if call is None or plan_flaw(call):
        return None
    plan = call.plan
    callees = [*(node.callee for node in plan.nodes), plan.collector]
    sources = [sources_of(node) for node in plan.nodes]
    return PlanNote(
        [plan.callees[callee].task.identity for callee in callees],
        [*sources, tuple(range(len(plan.nodes)))],
    )


def judge_node(judge: Judge, event: m.ActionRequested) -> None:
    """Judge the request of a node: it is in the plan, not there yet, and its sources are."""
    name = f"a{event.action}"
    parent = judge.note.actions[event.parent]
    plan, node = parent.plan, event.node - 1
    if plan is None or not 0 <= node < len(plan.sources):
        judge.breach("I12", f"{name} is node {event.node} of a plan that has none such")
        return
    if node in plan.ordinals:
        judge.breach(
            "I02", f"node {event.node} of a{event.parent} is a{plan.ordinals[node]} already"
        )
        return
    plan.ordinals[node] = event.action
    if event.task.identity != plan.identities[node]:
        judge.breach("I12", f"{name} calls another task than node {event.node} of the plan")
    if any(not _succeeded(judge, plan, source) for source in plan.sources[node]):
        judge.breach("I12", f"{name} is requested before the nodes that it waits for succeeded")


def _succeeded(judge: Judge, plan: PlanNote, node: int) -> bool:
    ordinal = plan.ordinals.get(node)
    return ordinal is not None and judge.note.actions[ordinal].outcome in SUCCESS_PHASES


def _graph_started(judge: Judge, event: m.GraphStarted) -> bool:
    action = judge.known(event)
    if action is None:
        return False
    name = f"a{event.action}"
    if action.done:
        judge.breach("I05", f"{name} is walked after its end")
        return False
    if action.aborted or judge.note.aborting:
        judge.breach("I09", f"{name} is walked after its abort")
        return False
    if action.kind != KIND_GRAPH or action.standing is not Standing.READY:
        judge.breach("I08", f"{name}, a {action.kind}, is walked while {action.standing.value}")
        return False
    if action.plan is None:
        judge.breach("I12", f"{name} is walked without a plan")
    action.awaits_key = False
    action.standing = Standing.WALKING
    return True


def _graph_succeeded(judge: Judge, event: m.GraphSucceeded) -> bool:
    action = judge.known(event)
    if action is None or ended_already(judge, event, action):
        return False
    if action.standing is not Standing.WALKING:
        return False
    if any(not judge.note.actions[child].done for child in action.children):
        judge.breach("I12", f"a{event.action} succeeds while nodes of it are open")
        return False
    _check_nodes(judge, event.action, action)
    output = value_hash(event.output)
    if judge.barred(action):
        judge.breach("I09", f"a{event.action} succeeded after its abort")
    judge.end(event.action, action, Phase.SUCCEEDED, output)
    if action.cache_key:
        keep(judge, event.action, action, output)
    return True


def _check_nodes(judge: Judge, ordinal: int, action: ActionNote) -> None:
    plan = action.plan
    if plan is None:
        return
    left = [node for node in range(len(plan.sources) - 1) if not _succeeded(judge, plan, node)]
    if left:
        judge.breach("I12", f"a{ordinal} succeeds, but {len(left)} nodes of its plan have not")


GRAPH_RULES: Final[Mapping[type[m.Event], Callable[[Judge, Any], bool]]] = {
    m.GraphStarted: _graph_started,
    m.GraphSucceeded: _graph_succeeded,
}
