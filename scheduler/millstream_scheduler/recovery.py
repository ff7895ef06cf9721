"""Taking outcomes over from the run that a run recovers."""

from millstream_events import model as m
from millstream_events.state import RunState
from millstream_scheduler.outcomes import action_ended
from millstream_scheduler.turn import Turn


def recover(turn: Turn, run: RunState, ordinal: int) -> bool:
    """End a new action with the outcome that it had in the run that this one recovers.

    Returns:
        False if there is none: the run recovers nothing, the action did not succeed there, or
        it is to be executed again.
    """
    action = run.actions[ordinal]
    before = turn.book.success_before(run, action.id)
    if before is None:
        return False
    turn.record(
        run,
        m.ActionRecovered(
            ordinal,
            0,
            action.last_rev,
            source_run=before.run,
            source_action=before.action,
            output=before.output,
            items=before.items,
        ),
    )
    action_ended(turn, run, ordinal)
    return True
