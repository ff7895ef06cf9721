"""What earlier runs leave to the run that recovers or forks one of them.

A `Source` is made of folded runs, nearest first: the run that was named, the run which that one
recovered, and so on. It is looked up by action id, and ids say everything that a result depends
on (caller, task with its code, inputs, group, count), so changed code misses by itself. No I/O
here: `source_reader` reads the runs before the command that names them is heard.
"""

from typing import Final, NamedTuple, TypeAlias

from millstream_events.ids import ROOT_ID
from millstream_events.phases import SUCCESS_PHASES
from millstream_events.reports import JournalEntry
from millstream_events.state import ActionState, RunState
from millstream_events.values import Items, Origin, Value

#: `Origin.mode` of runs that take over what has succeeded.
REUSING_MODES: Final = frozenset({"recover", "fork"})
#: Runs that one chain of recoveries may have; the read of a longer one is refused.
CHAIN_RUNS_MAX: Final = 32


class Outcome(NamedTuple):
    """A success of an earlier run."""

    run: str
    action: int
    #: Large ones lie in the blob store and are referred to, never copied.
    output: Value | None
    items: Items | None = None


class NoSource(NamedTuple):
    """Why there is nothing to recover from: a refusal's code, and what a user is told."""

    code: str
    reason: str


class Source:
    """The successes of a chain of runs, and the steps that their attempts have recorded.

    Holds at most the actions of `CHAIN_RUNS_MAX` runs, without their inputs.
    """

    __slots__ = ("_excluded", "outcomes", "runs", "steps", "wanted")

    def __init__(self, run: str) -> None:
        #: Run to be added next; empty: the chain ends here.
        self.wanted = run
        #: Runs that were added, nearest first.
        self.runs: list[str] = []
        self.outcomes: dict[bytes, Outcome] = {}
        #: Recorded steps by the id of the action that took them.
        self.steps: dict[bytes, dict[bytes, JournalEntry]] = {}
        #: Actions that a nearer run was told to execute again.
        self._excluded: set[bytes] = set()

    def add(self, run: RunState) -> None:
        """Add the run that is `wanted`, folded as far as it is durable."""
        assert run.id == self.wanted, (run.id, self.wanted)
        self.runs.append(run.id)
        for ordinal, action in enumerate(run.actions):
            if action.id == ROOT_ID or action.id in self._excluded:
                continue
            if action.kind == "trace":
                self._add_step(run.actions[action.parent].id, ordinal, action)
            elif action.phase in SUCCESS_PHASES and action.kind != "timer":
                outcome = Outcome(run.id, ordinal, action.output, action.items)
                self.outcomes.setdefault(action.id, outcome)
        self.wanted = ""
        if run.origin is not None and run.origin.mode in REUSING_MODES:
            self._excluded.update(run.origin.forced)
            self.wanted = run.origin.run

    def _add_step(self, parent: bytes, ordinal: int, action: ActionState) -> None:
        # A failure that stops retries is what a recovery is to heal. One that may heal is kept:
        # a step that succeeded after it goes by a later name, and is found from this one on.
        if action.error is not None and not action.error.retryable:
            return
        entry = JournalEntry(action.id, ordinal, action.phase, action.output, action.error)
        self.steps.setdefault(parent, {}).setdefault(action.id, entry)


#: What the reader found.
Reading: TypeAlias = Source | NoSource


def reuses(origin: Origin | None) -> bool:
    """Say whether a run of this origin takes over what has succeeded."""
    return origin is not None and origin.mode in REUSING_MODES
