"""What is under way in each configured queue, and whether there is room for more.

Follows from the folded state, like everything in the leader's memory. A queue without settings
has no limits and is not counted.
"""

from collections.abc import Mapping
from typing import Final

from millstream_events.queues import QueueSettings
from millstream_events.state import RunState
from millstream_scheduler.placement import QUEUE

#: What a sender is told to wait when a queue is full.
FULL_RETRY_MS: Final = 500
_PLAIN: Final = QueueSettings()


def queue_name(run: RunState, ordinal: int) -> str:
    """Return the queue of an action: its own, or else that of the run, which is its root's."""
    policy = run.actions[ordinal].policy
    if policy is not None and policy.queue:
        return policy.queue
    root = run.actions[0].policy
    return "" if root is None else root.queue


class QueueBook:
    """The counters of all configured queues."""

    def __init__(self, settings: Mapping[str, QueueSettings]) -> None:
        self.settings = settings
        #: Runs whose root was given to an agent, by queue.
        self._runs: dict[str, set[str]] = {name: set() for name in settings}
        #: Actions that run and do not wait for children, by queue.
        self._busy: dict[str, int] = dict.fromkeys(settings, 0)

    def pool_of(self, name: str) -> str:
        """Return the pool that a queue names, or that of its own name; see `settled`."""
        settings = self.settings.get(name)
        if settings is not None and settings.pool:
            return settings.pool
        return QUEUE + name if name else ""

    def priority_of(self, name: str) -> int:
        """Return a queue's priority."""
        return self.settings.get(name, _PLAIN).priority

    def is_new_run(self, name: str, run: RunState, ordinal: int) -> bool:
        """Say whether dispatching the action puts one more run under way in a limited queue."""
        settings = self.settings.get(name)
        if settings is None or ordinal or not settings.run_concurrency:
            return False
        return run.id not in self._runs[name]

    def has_room(self, name: str, *, new_run: bool) -> bool:
        """Say whether one more action of the queue may be dispatched."""
        settings = self.settings.get(name)
        if settings is None:
            return True
        if settings.action_concurrency and self._busy[name] >= settings.action_concurrency:
            return False
        return not new_run or len(self._runs[name]) < settings.run_concurrency

    def why_full(self, name: str) -> str:
        """Say what a queue without room waits for."""
        settings = self.settings.get(name, _PLAIN)
        if settings.action_concurrency and self._busy[name] >= settings.action_concurrency:
            return f"queue {name!r} has its most actions at once, {settings.action_concurrency}"
        return f"queue {name!r} has its most runs under way, {settings.run_concurrency}"

    def runs_in(self, name: str) -> int:
        """Return how many runs of a configured queue are under way."""
        return len(self._runs[name])

    def busy_in(self, name: str) -> int:
        """Return how many actions of a configured queue run without waiting for children."""
        return self._busy[name]

    def note_busy(self, run: RunState, ordinal: int, delta: int) -> None:
        """Move the counter of an action's queue."""
        if self.settings:
            name = queue_name(run, ordinal)
            if name in self._busy:
                self._busy[name] += delta

    def note_run(self, run: RunState) -> None:
        """Count the run if it is under way."""
        if self.settings and run.started_ns:
            runs = self._runs.get(queue_name(run, 0))
            if runs is not None:
                runs.add(run.id)

    def forget_run(self, run: RunState) -> None:
        """Take a run that is over off."""
        if self.settings and run.actions:
            runs = self._runs.get(queue_name(run, 0))
            if runs is not None:
                runs.discard(run.id)
