"""Walking plans: each node is requested as soon as what it takes is there (decision 16).

The leader is the parent: no process waits for the nodes, and no call travels for an edge. A
node's id follows from its graph, task and inputs by the rule of ordinary calls; when it ends
without success, so does the graph, with the same error, and what is left of it is aborted.
"""

import msgspec

from millstream_events import model as m
from millstream_events.compose import (
    Composed,
    Elsewhere,
    Outcome,
    PartError,
    Sources,
    cache_key_of,
    compose,
    composed_result,
)
from millstream_events.ids import ActionId, child_id
from millstream_events.input_hash import inputs_hash
from millstream_events.phases import SUCCESS_PHASES, Phase, State
from millstream_events.plans import Callee, Fields, Node, plan_call, plan_flaw
from millstream_events.state import RunState
from millstream_events.values import ErrorRecord, Value
from millstream_scheduler.caching import in_force, look_up
from millstream_scheduler.outcomes import action_ended
from millstream_scheduler.turn import Turn
from millstream_scheduler.walk import Walk

#: Name of the one parameter of a collector.
COLLECTED = "result"


def walk_on(turn: Turn) -> None:
    """Go on with every graph of which something began or ended."""
    book = turn.book
    while book.to_walk:
        run_id, ordinal, child = book.to_walk.popleft()
        run = turn.state.runs.get(run_id)
        if run is None or not run.decidable or run.actions[ordinal].state != State.WALKING:
            book.walks.pop((run_id, ordinal), None)
            continue
        walk = book.walks.get((run_id, ordinal))
        if walk is None:
            # Accepted plans can be walked, but a newer version may have accepted another form.
            call = plan_call(run.actions[ordinal].inputs)
            flaw = "a graph without a plan" if call is None else plan_flaw(call)
            if call is None or flaw:
                _fail(turn, run, ordinal, ErrorRecord("user", "PlanError", flaw, retryable=False))
                continue
            walk = book.walks[run_id, ordinal] = Walk(run, ordinal, call)
        _step(turn, run, ordinal, walk, child)


def _step(turn: Turn, run: RunState, ordinal: int, walk: Walk, child: int) -> None:
    if child < 0:  # It has just begun here, and may have ended nodes from before.
        children = run.actions[ordinal].children
        ended = [each for each in children if run.actions[each].terminal]
        child = next((e for e in ended if run.actions[e].phase not in SUCCESS_PHASES), -1)
    if child >= 0:
        node = run.actions[child]
        if node.phase not in SUCCESS_PHASES:
            _fail(turn, run, ordinal, _error_of(node.error, node.phase))
            return
        walk.succeeded(node.node - 1)
    try:
        for node_index in sorted(walk.ready):
            if not _has_room(turn, run, ordinal):
                return
            _request_node(turn, run, ordinal, walk, node_index)
        if walk.complete:
            _succeed(turn, run, ordinal, walk)
    except PartError as exc:
        text = f"the plan of {run.actions[ordinal].task.name}: {exc}"
        _fail(turn, run, ordinal, ErrorRecord("user", "PlanError", text, retryable=False))


def _has_room(turn: Turn, run: RunState, ordinal: int) -> bool:
    limit = turn.book.config.run_actions_max
    if len(run.actions) < limit:
        return True
    text = f"run {run.id} has {limit} actions, the most that one run may have"
    _fail(turn, run, ordinal, ErrorRecord("user", "too-many-children", text, retryable=False))
    return False


def _sources(run: RunState, walk: Walk) -> Sources:
    def outcome(node: int) -> Outcome:
        action = run.actions[walk.ordinals[node]]
        return Outcome(action.id, action.output)

    return Sources(walk.call.inputs, walk.call.plan.constants, outcome)


def _request_node(turn: Turn, run: RunState, ordinal: int, walk: Walk, index: int) -> None:
    plan = walk.call.plan
    node = plan.nodes[index]
    callee = plan.callees[node.callee]
    composed = Composed(None, inputs_hash(None))
    if node.inputs is not None:
        composed = compose(node.inputs, _sources(run, walk), callee.ignored)
    _request(turn, run, ordinal, walk, index, (node, callee, composed))


def _request(
    turn: Turn,
    run: RunState,
    ordinal: int,
    walk: Walk,
    index: int,
    call: tuple[Node, Callee, Composed],
) -> None:
    node, callee, composed = call
    graph = run.actions[ordinal]
    k, found = 0, _id_of(graph.id, call, 0)
    while found in run.ordinals:  # Nodes that turned out to be the same call.
        k += 1
        found = _id_of(graph.id, call, k)
    key, mode = in_force(run.settings, cache_key_of(callee, composed.hash), callee.cache_mode)
    child = len(run.actions)
    effective = turn.record(
        run,
        m.ActionRequested(
            child,
            0,
            graph.last_rev,
            id=found,
            parent=ordinal,
            task=callee.task,
            inputs=composed.inputs,
            inputs_hash=composed.hash,
            group=node.group,
            k=k,
            policy=callee.policy,
            cache_key=key,
            cache_mode=mode,
            node=index + 1,
        ),
    )
    assert effective, (run.id, child)
    walk.requested(index, child)
    turn.book.add_child(run, ordinal)
    turn.book.watch_deadline(run, child)
    look_up(turn, run, child)


def _id_of(graph: bytes, call: tuple[Node, Callee, Composed], k: int) -> ActionId:
    node, callee, composed = call
    return child_id(
        ActionId(graph),
        task_identity=callee.task.identity,
        inputs_hash=composed.hash,
        group=node.group,
        k=k,
    )


def _succeed(turn: Turn, run: RunState, ordinal: int, walk: Walk) -> None:
    """End a graph of which every node succeeded, or have its result put together first."""
    plan = walk.call.plan
    output: Value | None
    if walk.collected is not None:
        output = run.actions[walk.collected].output
    elif walk.collecting:
        return
    else:
        sources = _sources(run, walk)
        try:
            output = composed_result(plan.result, sources)
        except Elsewhere:
            if not _has_room(turn, run, ordinal):
                return
            assert plan.result is not None, ordinal
            collected = compose(Fields((COLLECTED,), (plan.result,)), sources)
            call = Node(plan.collector), plan.callees[plan.collector], collected
            _request(turn, run, ordinal, walk, len(plan.nodes), call)
            return
    turn.record(run, m.GraphSucceeded(ordinal, 0, run.actions[ordinal].last_rev, output=output))
    _over(turn, run, ordinal)


def _fail(turn: Turn, run: RunState, ordinal: int, error: ErrorRecord) -> None:
    last_rev = run.actions[ordinal].last_rev
    turn.record(run, m.ActionFinished(ordinal, 0, last_rev, phase=Phase.FAILED, error=error))
    _over(turn, run, ordinal)


def _over(turn: Turn, run: RunState, ordinal: int) -> None:
    turn.book.walks.pop((run.id, ordinal), None)
    action_ended(turn, run, ordinal)


def _error_of(error: ErrorRecord | None, phase: str) -> ErrorRecord:
    """Return the error of a graph whose node ended with `error`.

    As that of a parent that awaited it: its own worker did not crash, and its own time was not
    up; its node's was.
    """
    if error is None:
        return ErrorRecord("user", "RuntimeUnknownError", f"a node ended {phase}")
    return msgspec.structs.replace(error, kind="user")
