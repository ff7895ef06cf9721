"""What running attempts ask for: children, timers, traces, cancels, answers."""

from collections.abc import Sequence
from typing import Final

from millstream_events import model as m
from millstream_events.phases import State
from millstream_events.reports import (
    JOURNAL_BYTES_MAX,
    Annotate,
    AskChildren,
    AskJournal,
    CancelChild,
    Diverged,
    Forget,
    JournalEntry,
    JournalPage,
    OpenCondition,
    RecordTrace,
    Refuse,
    SetTimer,
    StartAction,
)
from millstream_events.state import RunState
from millstream_events.values import Inline
from millstream_scheduler.assign import adopt, ordinal_of, settle_eager
from millstream_scheduler.caching import in_force, look_up
from millstream_scheduler.graphs import graph_flaw, results_taken
from millstream_scheduler.lookups import answer_artifact, look_up_deployed
from millstream_scheduler.outcomes import abort_action, release_to_parent
from millstream_scheduler.queues import FULL_RETRY_MS, queue_name
from millstream_scheduler.sizes import PAYLOAD_BYTES_MAX, call_bytes, too_large, trimmed
from millstream_scheduler.sources import reuses
from millstream_scheduler.timers import Due
from millstream_scheduler.turn import Turn

_ENTRY_BYTES: Final = 64


def caller(
    turn: Turn, agent: str, run_id: str, ordinal: int, token: bytes
) -> tuple[RunState, int] | None:
    """Return the run and the ordinal whose *current* attempt asks, or None after a `Forget`.

    An attempt that is not current (its action ended, was lost, runs elsewhere) is told to end:
    nothing that it asks takes effect (rule F6).
    """
    run = turn.state.runs.get(run_id)
    if run is not None and run.decidable:
        found = ordinal_of(turn, agent, run, ordinal, token)
        if found is not None:
            return run, found
    turn.order_now(agent, Forget(token))
    return None


def new_call(
    turn: Turn, agent: str, request: StartAction | SetTimer | OpenCondition
) -> tuple[RunState, int] | None:
    """Return the run and the caller's ordinal if the call is to be made; None: it is answered.

    A call that exists is released if it is over (rule F9).
    """
    found = caller(turn, agent, request.run, request.parent, request.token)
    if found is None:
        return None
    run, caller_ordinal = found
    known = run.ordinals.get(request.id)
    if known is not None:
        if run.actions[known].terminal:
            release_to_parent(turn, run, known)
        return None
    if run.aborting or run.actions[caller_ordinal].state == State.ABORTING:
        return None  # The parent has been told to end; its own end answers for its calls.
    return found


def start_action(turn: Turn, agent: str, request: StartAction) -> None:
    """Create the child that an attempt calls, or answer for the one that exists (rule F9)."""
    _start_action(turn, agent, request)
    if request.eager:
        settle_eager(turn, agent, request)


def _start_action(turn: Turn, agent: str, request: StartAction) -> None:
    found = new_call(turn, agent, request)
    if found is None:
        return
    run, caller_ordinal = found
    parent = run.actions[caller_ordinal]
    if (refusal := _flaw(turn, run, request)) is not None:
        turn.order_now(agent, refusal)
        return
    if request.kind == "lookup":
        look_up_deployed(turn, agent, run, caller_ordinal, request)
        return
    if request.kind == "artifact":
        answer_artifact(turn, agent, run, caller_ordinal, request)
        return
    if (full := _full(turn, run, request)) is not None:
        turn.book.begin_calling(run, caller_ordinal)
        turn.order_now(agent, full)
        return
    turn.book.end_calling(run, caller_ordinal)
    ordinal = len(run.actions)
    cache_key, cache_mode = in_force(run.settings, request.cache_key, request.cache_mode)
    effective = turn.record(
        run,
        m.ActionRequested(
            ordinal,
            0,
            parent.last_rev,
            id=request.id,
            parent=caller_ordinal,
            kind=request.kind,
            task=request.task,
            inputs=request.inputs,
            inputs_hash=request.inputs_hash,
            group=request.group,
            k=request.k,
            policy=request.policy,
            cache_key=cache_key,
            cache_mode=cache_mode,
            items=request.items,
        ),
    )
    assert effective, (run.id, ordinal)
    turn.book.add_child(run, caller_ordinal)
    turn.book.watch_deadline(run, ordinal)
    # What may have an outcome already is looked up, though it has begun there.
    fresh = not request.cache_key and not reuses(run.origin)
    if not (
        request.eager
        and fresh
        and adopt(turn, agent, run, ordinal, request.eager, request.generation)
    ):
        look_up(turn, run, ordinal)


def _flaw(turn: Turn, run: RunState, request: StartAction) -> Refuse | None:
    """Return the refusal of a call that can never be made."""

    def refuse(code: str, text: str) -> Refuse:
        return Refuse(run.id, request.token, request.id, code, text)

    size_bytes = call_bytes(request)
    if size_bytes > PAYLOAD_BYTES_MAX:
        text = f"the call takes {size_bytes} bytes in the log; the limit is {PAYLOAD_BYTES_MAX}"
        return refuse("too-large", text)
    if request.kind in ("lookup", "artifact"):
        return None  # A question, which becomes no action of its own kind.
    limit = turn.book.config.run_actions_max
    if len(run.actions) >= limit:
        text = f"run {run.id} has {limit} actions, the most that one run may have"
        return refuse("too-many-children", text)
    if flaw := graph_flaw(request.kind, request.inputs):
        return refuse("invalid", flaw)
    return None


def _full(turn: Turn, run: RunState, request: StartAction) -> Refuse | None:
    """Return the refusal of a call whose queue is full; the sender calls again, for ever."""
    own = "" if request.policy is None else request.policy.queue
    name = own or queue_name(run, 0)
    reason = turn.book.full(name)
    if not reason:
        return None
    return Refuse(run.id, request.token, request.id, "queue-full", reason, FULL_RETRY_MS)


def set_timer(turn: Turn, agent: str, request: SetTimer) -> None:
    """Start a durable sleep, or answer for the one that exists."""
    found = new_call(turn, agent, request)
    if found is None:
        return
    run, caller_ordinal = found
    parent = run.actions[caller_ordinal]
    ordinal = len(run.actions)
    turn.record(
        run,
        m.TimerSet(
            ordinal, 0, parent.last_rev, id=request.id, parent=caller_ordinal, due_ms=request.due_ms
        ),
    )
    turn.book.add_child(run, caller_ordinal)
    turn.book.timers.add(Due(request.due_ms, "timer", run.id, ordinal, 1))


def record_trace(turn: Turn, agent: str, report: RecordTrace) -> None:
    """Record a finished trace step, once."""
    found = caller(turn, agent, report.run, report.parent, report.token)
    if found is None or report.id in found[0].ordinals:
        return
    if too_large(report.output):
        return  # As if it had not been reported: a later attempt takes the step again.
    run, caller_ordinal = found
    parent = run.actions[caller_ordinal]
    recorded = turn.record(
        run,
        m.TraceRecorded(
            len(run.actions),
            parent.attempt,
            parent.last_rev,
            id=report.id,
            parent=caller_ordinal,
            token=report.token,
            name=report.name,
            inputs_hash=report.inputs_hash,
            output=report.output,
            error=None if report.error is None else trimmed(report.error),
            started_ns=report.started_ns,
            ended_ns=report.ended_ns,
        ),
    )
    if recorded:
        turn.book.add_child(run, caller_ordinal)


def annotate(turn: Turn, agent: str, report: Annotate) -> None:
    """Keep with the action what its attempt leaves behind."""
    found = caller(turn, agent, report.run, report.action, report.token)
    if found is None or too_large(report.value):
        return
    run, ordinal = found
    action = run.actions[ordinal]
    turn.record(
        run,
        m.RunAnnotated(
            ordinal,
            action.attempt,
            action.last_rev,
            entries=((report.key, ""),),
            value=report.value,
        ),
    )


def note_divergence(turn: Turn, agent: str, report: Diverged) -> None:
    """Record that an attempt asked for something else than an earlier one."""
    found = caller(turn, agent, report.run, report.action, report.token)
    if found is None:
        return
    run, ordinal = found
    action = run.actions[ordinal]
    turn.record(
        run,
        m.DivergenceDetected(
            ordinal,
            action.attempt,
            action.last_rev,
            expected=report.expected,
            requested=report.requested,
            policy=report.reaction,
        ),
    )


def cancel_child(turn: Turn, agent: str, request: CancelChild) -> None:
    """Abort a child whose awaiting code was cancelled."""
    found = caller(turn, agent, request.run, request.parent, request.token)
    if found is None:
        return
    run, caller_ordinal = found
    known = run.ordinals.get(request.id)
    if known is None:
        turn.book.end_calling(run, caller_ordinal)
    elif run.actions[known].parent == caller_ordinal:
        abort_action(turn, run, known, why="cancelled")


def ask_children(turn: Turn, agent: str, request: AskChildren) -> None:
    """Release again what is over of the children that an attempt still waits for.

    One that nobody knows was refused, or its request is still on its way: it is asked for anew.
    """
    found = caller(turn, agent, request.run, request.parent, request.token)
    if found is None:
        return
    run, _ = found
    for child in request.ids:
        known = run.ordinals.get(child)
        if known is None:
            text = "the call has not arrived"
            unknown = Refuse(run.id, request.token, child, "unknown-call", text, FULL_RETRY_MS)
            turn.order_now(agent, unknown)
        elif run.actions[known].terminal:
            release_to_parent(turn, run, known)


def ask_journal(turn: Turn, agent: str, request: AskJournal) -> None:
    """Send one page of a journal."""
    found = caller(turn, agent, request.run, request.action, request.token)
    if found is None:
        return
    run, ordinal = found
    entries, following = journal(run, ordinal, request.start, brought_along(turn, run, ordinal))
    turn.order_durable(agent, JournalPage(request.token, entries, following))


def brought_along(turn: Turn, run: RunState, ordinal: int) -> tuple[JournalEntry, ...]:
    """Return what stands in front of an action's journal: outcomes that it did not ask for.

    The results that a node's inputs are made of, and the steps that the action recorded in the
    runs that this one recovers.
    """
    action = run.actions[ordinal]
    return (*results_taken(run, action), *turn.book.steps_before(run, action.id))


def journal(
    run: RunState, ordinal: int, start: int, steps: Sequence[JournalEntry] = ()
) -> tuple[tuple[JournalEntry, ...], int]:
    """Return the outcomes of an action's earlier calls.

    Args:
        run: The run.
        ordinal: Its action.
        start: Number of the entry to begin with: first come `steps`, then the children.
        steps: As `brought_along` gives them.

    Returns:
        At most `JOURNAL_BYTES_MAX` of entries, and where the next page begins (0: nowhere).
    """
    entries: list[JournalEntry] = []
    size_bytes = 0
    children = run.actions[ordinal].children
    for index in range(start, len(steps) + len(children)):
        entry = _entry(run, index, steps, children)
        if entry is None:
            continue
        if size_bytes > JOURNAL_BYTES_MAX:
            return tuple(entries), index
        entries.append(entry)
        size_bytes += _ENTRY_BYTES + _size(entry)
    return tuple(entries), 0


def _entry(
    run: RunState, index: int, steps: Sequence[JournalEntry], children: Sequence[int]
) -> JournalEntry | None:
    if index < len(steps):
        return steps[index]
    ordinal = children[index - len(steps)]
    child = run.actions[ordinal]
    if not child.terminal:
        return None
    return JournalEntry(child.id, ordinal, child.phase, child.output, child.error, child.task.name)


def _size(entry: JournalEntry) -> int:
    size = len(entry.output.content) if isinstance(entry.output, Inline) else 0
    if entry.error is not None:
        size += len(entry.error.message) + len(entry.error.traceback)
        if isinstance(entry.error.pickled, Inline):
            size += len(entry.error.pickled.content)
    return size
