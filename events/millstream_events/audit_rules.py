"""The invariants of one run, judged event by event (design: reliability.md 4).

Whether an event counts is decided here anew, from rules F5 to F11 and the auditor's own
records, never by asking the fold. Reports of agents may come to nothing: they are late, doubled
or overtaken. *Decisions* of the leader (a dispatch, a retry, an end) never do: a decision
without effect shows that the leader's state was not what the log says, and breaks the
invariant that voids it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from millstream_events import model as m
from millstream_events.audit_attempts import ATTEMPT_RULES
from millstream_events.audit_births import BIRTH_RULES
from millstream_events.audit_ends import END_RULES
from millstream_events.audit_graphs import GRAPH_RULES
from millstream_events.audit_judge import Judge, name_of

#: Every event of a run has its rule.
RULES: Final[Mapping[type[m.Event], Callable[[Judge, Any], bool]]] = {
    **BIRTH_RULES,
    **ATTEMPT_RULES,
    **END_RULES,
    **GRAPH_RULES,
}

_BIRTHS: Final = frozenset(
    {m.ActionRequested, m.TraceRecorded, m.TimerSet, m.ConditionOpened, m.RunCreated}
)
_DECISIONS: Final = frozenset(
    {
        m.ActionHeld,
        m.CacheHit,
        m.CacheReserved,
        m.ActionRecovered,
        m.AttemptDispatched,
        m.RetryScheduled,
        m.ActionFinished,
        m.ActionAbortRequested,
        m.TimerFired,
        m.GraphStarted,
        m.GraphSucceeded,
    }
)


def judge_event(judge: Judge, event: m.Event) -> None:
    """Judge the next event of the judge's run."""
    note = judge.note
    note.rev += 1
    judge.rev = note.rev
    if note.finished:
        _after_the_end(judge, event)
        return
    rule = RULES.get(type(event))
    if rule is None or not rule(judge, event):
        note.voids += 1


def _after_the_end(judge: Judge, event: m.Event) -> None:
    kind = type(event)
    if kind in _BIRTHS or kind is m.RunFinished:
        judge.breach("I26", f"{name_of(event)} after the run's end")
    elif kind in _DECISIONS:
        judge.breach("I05", f"{name_of(event)} of a{event.action} after the run's end")
    if not isinstance(event, m.RunAnnotated) or event.value is not None:
        note = judge.note
        note.voids += 1
