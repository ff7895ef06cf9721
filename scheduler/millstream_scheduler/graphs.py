"""How a graph begins, and what its nodes' attempts need beside their inputs."""

from millstream_events import model as m
from millstream_events.phases import State
from millstream_events.plans import (
    KIND_GRAPH,
    PLAN_BYTES_MAX,
    Result,
    leaves,
    parts_of,
    plan_call,
    plan_flaw,
)
from millstream_events.reports import JournalEntry
from millstream_events.state import ActionState, RunState
from millstream_events.values import Inline, Value
from millstream_scheduler.queues import queue_name
from millstream_scheduler.turn import Turn


def graph_flaw(kind: str, inputs: Value | None) -> str:
    """Say why a graph is not accepted; empty: it is, or the action is none."""
    if kind != KIND_GRAPH:
        return ""
    call = plan_call(inputs)
    if call is None or not isinstance(inputs, Inline):
        return "a graph without a plan"
    if len(inputs.content) > PLAN_BYTES_MAX:
        return f"the plan takes {len(inputs.content)} bytes; the limit is {PLAN_BYTES_MAX}"
    return plan_flaw(call)


def set_going(turn: Turn, run: RunState, ordinal: int) -> None:
    """Queue an action that may be dispatched; begin a graph at once, since it needs no slot.

    One that is the root of a run waits in its queue while that one has no room for more runs.
    """
    if run.actions[ordinal].kind == KIND_GRAPH:
        queues, name = turn.book.queues, queue_name(run, ordinal)
        is_new = queues.is_new_run(name, run, ordinal)
        if not is_new or queues.has_room(name, new_run=True):
            start_graph(turn, run, ordinal)
            return
    turn.book.make_ready(run, ordinal)


def start_graph(turn: Turn, run: RunState, ordinal: int) -> None:
    """Record that a graph is walked from here on; the tick's walk does the rest."""
    action = run.actions[ordinal]
    assert action.state in (State.READY, State.HELD), action.state
    turn.record(run, m.GraphStarted(ordinal, 0, action.last_rev))
    if not ordinal:
        turn.book.queues.note_run(run)
    turn.book.to_walk.append((run.id, ordinal, -1))


def results_taken(run: RunState, action: ActionState) -> tuple[JournalEntry, ...]:
    """Return the results that a node's inputs refer to.

    They have no name, as what an attempt need not ask for: that it does not is no divergence.
    """
    if not action.node:
        return ()
    entries: dict[bytes, JournalEntry] = {}
    for leaf in leaves(parts_of(action.inputs)):
        if isinstance(leaf, Result) and leaf.action not in entries:
            ordinal = run.ordinals[leaf.action]
            source = run.actions[ordinal]
            entries[leaf.action] = JournalEntry(source.id, ordinal, source.phase, source.output)
    return tuple(entries.values())
