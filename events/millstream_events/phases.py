"""Where an action stands, and which event may follow which state.

`State` is the machine of the fold; `Phase` is Flyte's word for it, which people see. A pair
(event, state) that is not in `ACCEPTS` makes the event void: it stays in the log, is counted,
and changes nothing (rules F5, F6 and F10 of architecture.md 1.6).
"""

import enum
from collections.abc import Mapping
from typing import Final

from millstream_events import model as m


class State(enum.IntEnum):
    """Internal state of an action. Values are stored in snapshots: never renumber."""

    READY = 0
    HELD = 1
    DISPATCHED = 2
    RUNNING = 3
    BACKOFF = 4
    #: A timer or a condition: ends by an event from outside, runs nowhere.
    WAITING = 5
    #: Told to end; an attempt may still be alive somewhere.
    ABORTING = 6
    #: An attempt failed or was lost; what comes next is decided in the same frame.
    FAILING = 7
    #: A graph whose nodes the leader requests one after another: runs nowhere itself.
    WALKING = 8
    SUCCEEDED = 10
    RECOVERED = 11
    FAILED = 12
    TIMED_OUT = 13
    ABORTED = 14
    SKIPPED = 15


class Phase(enum.StrEnum):
    """What people see (flyteidl2 `phase.proto`)."""

    QUEUED = "QUEUED"
    WAITING_FOR_RESOURCES = "WAITING_FOR_RESOURCES"
    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    TIMED_OUT = "TIMED_OUT"
    PAUSED = "PAUSED"
    RECOVERED = "RECOVERED"
    SKIPPED = "SKIPPED"


#: Every state from here on is terminal and absorbing (rule F5).
FIRST_TERMINAL: Final = State.SUCCEEDED

PHASE_OF: Final[Mapping[State, Phase]] = {
    State.READY: Phase.QUEUED,
    State.HELD: Phase.WAITING_FOR_RESOURCES,
    State.DISPATCHED: Phase.INITIALIZING,
    State.RUNNING: Phase.RUNNING,
    State.BACKOFF: Phase.QUEUED,
    State.WAITING: Phase.PAUSED,
    State.ABORTING: Phase.RUNNING,
    State.FAILING: Phase.RUNNING,
    State.WALKING: Phase.RUNNING,
    State.SUCCEEDED: Phase.SUCCEEDED,
    State.RECOVERED: Phase.RECOVERED,
    State.FAILED: Phase.FAILED,
    State.TIMED_OUT: Phase.TIMED_OUT,
    State.ABORTED: Phase.ABORTED,
    State.SKIPPED: Phase.SKIPPED,
}

#: Phases that a parent takes as a result; every other terminal phase raises.
SUCCESS_PHASES: Final = frozenset({Phase.SUCCEEDED, Phase.RECOVERED})
TERMINAL_PHASES: Final = frozenset(
    {
        Phase.SUCCEEDED,
        Phase.RECOVERED,
        Phase.FAILED,
        Phase.ABORTED,
        Phase.TIMED_OUT,
        Phase.SKIPPED,
    }
)

#: Terminal phases that `ActionFinished` may carry.
FINISHED_STATE: Final[Mapping[str, State]] = {
    Phase.FAILED: State.FAILED,
    Phase.TIMED_OUT: State.TIMED_OUT,
    Phase.ABORTED: State.ABORTED,
    Phase.SKIPPED: State.SKIPPED,
}

_LIVE: Final = (State.DISPATCHED, State.RUNNING)
_OPEN: Final = tuple(state for state in State if state < FIRST_TERMINAL)

#: Event type -> states in which it takes effect; elsewhere it is void. `fold` says what comes next.
ACCEPTS: Final[Mapping[type[m.Event], frozenset[State]]] = {
    m.ActionHeld: frozenset({State.READY, State.HELD}),
    m.CacheHit: frozenset({State.READY, State.HELD}),
    # WAITING: a condition that was answered in the run recovered.
    m.ActionRecovered: frozenset({State.READY, State.HELD, State.WAITING}),
    m.AttemptDispatched: frozenset({State.READY, State.HELD}),
    m.AttemptStarted: frozenset({State.DISPATCHED}),
    m.AttemptSucceeded: frozenset(_LIVE),
    m.AttemptFailed: frozenset({*_LIVE, State.ABORTING}),
    m.AttemptLost: frozenset({*_LIVE, State.ABORTING}),
    m.AttemptParked: frozenset(_LIVE),
    m.AttemptEvicted: frozenset(_LIVE),
    m.AttemptReturned: frozenset({State.DISPATCHED}),
    m.RetryScheduled: frozenset({State.FAILING}),
    m.ActionFinished: frozenset(_OPEN),
    m.ActionAbortRequested: frozenset(set(_OPEN) - {State.ABORTING}),
    m.ConditionSignalled: frozenset({State.WAITING}),
    m.TimerFired: frozenset(_OPEN),
    m.ChildRunLinked: frozenset({State.READY, State.HELD}),
    m.ChildRunFinished: frozenset({State.READY, State.HELD, State.WAITING}),
    m.StreamItem: frozenset(_LIVE),
    m.DivergenceDetected: frozenset(_LIVE),
    m.GroupOpened: frozenset(_LIVE),
    m.GroupClosed: frozenset(_LIVE),
    m.CacheReserved: frozenset({State.READY, State.HELD}),
    m.GraphStarted: frozenset({State.READY, State.HELD}),
    m.GraphSucceeded: frozenset({State.WALKING}),
}


def is_terminal(state: State) -> bool:
    """Say whether nothing can change an action in this state any more."""
    return state >= FIRST_TERMINAL
