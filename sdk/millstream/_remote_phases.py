"""The phases that each attempt of an action went through, from the events of its run."""

from collections.abc import Iterable

from millstream._remote_records import PhaseTransition, phase_of, time_of
from millstream.models import ActionPhase
from millstream_events.codec import decode_frame
from millstream_events.errors import LogCorruptError
from millstream_events.fold import apply
from millstream_events.model import AttemptFailed, AttemptLost, AttemptSucceeded, Event, Frame
from millstream_events.ports import LogEntry
from millstream_events.state import RunState, ShardState


def transitions_of(
    entries: Iterable[LogEntry], run: str, ordinal: int
) -> dict[int, list[PhaseTransition]]:
    """Return the phases of each attempt of one action, in order.

    Folds the run once more, event by event. The last phase of an attempt that is over ended
    when it began.
    """
    shard = ShardState(run[:4])
    state = shard.runs[run] = RunState(run)
    phases = _Phases()
    for entry in entries:
        try:
            frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
        except LogCorruptError:
            continue
        if not isinstance(frame, Frame):
            continue
        for event in frame.events:
            apply(shard, state, event, frame.ts_ns)
            if event.action == ordinal and ordinal < len(state.actions):
                action = state.actions[ordinal]
                phases.take(event, action.attempt, phase_of(action.phase), frame.ts_ns)
    return phases.attempts


class _Phases:
    """The phases of one action so far."""

    def __init__(self) -> None:
        self.attempts: dict[int, list[PhaseTransition]] = {}

    def take(self, event: Event, attempt: int, phase: ActionPhase, ts_ns: int) -> None:
        """Take the phase that an event about the attempt has led to."""
        found = self.attempts.setdefault(attempt, [])
        if isinstance(event, (AttemptSucceeded, AttemptFailed)) and event.started_ns:
            # A short attempt tells of its start only with its end.
            if all(each.phase is not ActionPhase.RUNNING for each in found):
                self._enter(found, ActionPhase.RUNNING, event.started_ns)
            if found[-1].phase is ActionPhase.RUNNING and event.ended_ns:
                found[-1].end_time = time_of(event.ended_ns)
        if isinstance(event, (AttemptFailed, AttemptLost)):
            phase = ActionPhase.FAILED  # Of this attempt; there may be another one.
        if phase.is_terminal and found and found[-1].phase.is_terminal:
            found[-1].phase = phase
        elif not found or found[-1].phase is not phase:
            self._enter(found, phase, ts_ns)
        if phase.is_terminal:
            found[-1].end_time = found[-1].start_time

    def _enter(self, found: list[PhaseTransition], phase: ActionPhase, ts_ns: int) -> None:
        begins = time_of(ts_ns)
        if found:
            last = found[-1]
            # Worker and leader may have different clocks: a phase never ends before it began.
            begins = max(begins, last.start_time)
            if last.end_time is None:
                last.end_time = begins
        found.append(PhaseTransition(phase, begins, None))
