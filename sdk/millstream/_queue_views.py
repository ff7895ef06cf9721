"""Queues as plain dicts: what `millstream get queue` shows, folded from the log."""

from typing import Final

from millstream._views import View
from millstream_events.phases import State
from millstream_events.queues import PRIORITIES, QueueSettings, QueueState, queues_of
from millstream_events.state import RunState, ShardState

_NAMES: Final = {number: name for name, number in PRIORITIES.items()}
_WAITING: Final = (State.READY, State.HELD)


class _Counts:
    """What is in one queue."""

    def __init__(self) -> None:
        self.runs = self.queued = self.running = 0


def queue_views(shard: ShardState) -> list[View]:
    """Return every queue that is configured or in use, by name."""
    configured = queues_of(shard.settings)
    counts = {name: _Counts() for name in configured}
    for run in shard.runs.values():
        if not run.finished and run.actions:
            _count(run, counts)
    return [
        _view(name, configured.get(name), counts[name])
        for name in sorted(counts)
        if name or counts[name].runs
    ]


def _count(run: RunState, counts: dict[str, _Counts]) -> None:
    own = run.actions[0].rules.queue
    counts.setdefault(own, _Counts()).runs += 1
    for action in run.actions:
        here = counts.setdefault(action.rules.queue or own, _Counts())
        here.queued += action.state in _WAITING
        here.running += bool(action.token) and not action.open_children


def _view(name: str, settings: QueueSettings | None, counts: _Counts) -> View:
    shown = settings or QueueSettings(depth=0, pool=name)
    state = QueueState.ACTIVE
    if shown.draining:
        empty = not (counts.runs or counts.queued or counts.running)
        state = QueueState.DRAINED if empty else QueueState.DRAINING
    return {
        "name": name,
        "state": str(state),
        "priority": _NAMES.get(shown.priority, str(shown.priority)),
        "run_concurrency": shown.run_concurrency or None,
        "action_concurrency": shown.action_concurrency or None,
        "depth": shown.depth or None,
        "pool": shown.pool or None,
        "runs": counts.runs,
        "queued": counts.queued,
        "running": counts.running,
        "configured": settings is not None,
    }
