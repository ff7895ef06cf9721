"""What a leader keeps in memory: the folded state, and what follows from it.

Everything but `state` can be rebuilt: ready queues, timers and counters from the state
(`rebuild`), seats from the agents' introductions, watchers from the clients' repeats. A new
leader starts with nothing else.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from millstream_events.ids import Digest, Token, token_of
from millstream_events.phases import State
from millstream_events.plans import KIND_GRAPH
from millstream_events.queues import queues_of
from millstream_events.reports import APP_SETTING, JournalEntry
from millstream_events.schedules import next_after
from millstream_events.state import ActionState, RunState, ShardState, flight_key
from millstream_events.values import Selector
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.fairness import (
    RANK_EVICTED,
    RANK_NEW,
    RANK_RETRY,
    FairQueue,
    QueueTurns,
    Ready,
)
from millstream_scheduler.late_answers import LateAnswers
from millstream_scheduler.placement import QUEUE, Seat, Wanted, selector_of, settled
from millstream_scheduler.queues import QueueBook, queue_name
from millstream_scheduler.sources import Outcome, Source, reuses
from millstream_scheduler.timers import Due, Timers, Waits
from millstream_scheduler.walk import Walk

#: Longest that one side's word on a run is waited for when it was sent to leader and agent.
EXPECTED_MS: Final = 250
_LIVE: Final = (State.DISPATCHED, State.RUNNING)
#: Blobs of which is remembered whether they were there.
BLOBS_SEEN_MAX: Final = 4096


class ClassKey(NamedTuple):
    """What ready actions have in common that wait together."""

    queue_name: str
    wanted: Wanted
    #: Roots of runs that count against their queue's `run_concurrency` and are not under way.
    new_runs: bool = False


class Ending(NamedTuple):
    """Actions that are being aborted, too many for one step; see `outcomes.end_waiting`."""

    run: str
    #: They only wait in a queue. The last one is the next.
    ordinals: list[int]
    why: str
    who: str
    reason: str
    source: bytes


class ReadyClass:
    """Ready actions of one queue that any of the same agents may run."""

    __slots__ = ("key", "queue", "unmatched_since_ns")

    def __init__(self, key: ClassKey) -> None:
        self.key = key
        self.queue = FairQueue()
        #: Since when no fresh agent has matched and had room, on the leader's monotonic clock;
        #: 0: one does.
        self.unmatched_since_ns = 0


class Book:
    """The leader's memory."""

    def __init__(self, state: ShardState, config: SchedulerConfig, secret: bytes) -> None:
        self.state = state
        self.config = config
        self._secret = secret
        self._tokens = 0
        self.timers = Timers()
        self.classes: dict[ClassKey, ReadyClass] = {}
        self.turns = QueueTurns()
        self.queues = QueueBook(queues_of(state.settings))
        self.seats: dict[str, Seat] = {}
        #: Agents to be asked for their introduction: (pool, region, incarnation).
        self.strangers: dict[str, tuple[str, str, str]] = {}
        #: Clients that wait for a run.
        self.watchers: dict[str, set[str]] = {}
        self.late = LateAnswers()
        #: Runs whose client has sent them to an agent as well, which has said nothing of them yet.
        self.expected: Waits[str] = Waits(EXPECTED_MS)
        #: Runs that an agent has spoken of and their client not yet; and those of which the client
        #: has been refused, or has said nothing for so long.
        self.unheard_of: Waits[str] = Waits(EXPECTED_MS)
        self.not_coming: Waits[None] = Waits(EXPECTED_MS)
        #: Depth of each action of each open run.
        self.depths: dict[str, list[int]] = {}
        #: Running, not waiting for children: by run, and by (run, parent).
        self.busy_runs: dict[str, int] = {}
        self.busy_parents: dict[tuple[str, int], int] = {}
        #: Attempts that repeat a call until there is room for it, and the run of each.
        self.calling: dict[bytes, str] = {}
        #: Ready actions set aside because their run or their parent is at its limit.
        self.aside: dict[str | tuple[str, int], deque[Ready]] = {}
        #: What the tick under way has still to abort. While there is some, it is not over.
        self.endings: deque[Ending] = deque()
        #: Agents with live attempts that have not introduced themselves to this leader.
        self.unclaimed: set[str] = set()
        #: Held actions that wait for another to compute their cache key, in order of arrival.
        self.waiting: dict[bytes, dict[tuple[str, int], None]] = {}
        #: Blobs of cached results: who waits for a look at them, and what the last one showed.
        self.looking: dict[Digest, dict[tuple[str, int], None]] = {}
        self.blobs_seen: dict[Digest, tuple[int, bool]] = {}
        #: Runs whose actions may be let go of once their last frame is durable.
        self.finished: list[str] = []
        #: What runs recover from, by the run that they name; kept while such a run is open.
        self.sources: dict[str, Source] = {}
        #: Open runs that serve an app, in the order in which they were created.
        self.apps: dict[str, None] = {}
        #: Open runs that recover from each.
        self.source_users: dict[str, set[str]] = {}
        #: Where the walks of open graphs stand, by run and ordinal; see `walk.Walk`.
        self.walks: dict[tuple[str, int], Walk] = {}
        #: Nodes that ended, as (run, graph, node), and graphs that began: (run, graph, -1).
        self.to_walk: deque[tuple[str, int, int]] = deque()

    # -------------------------------------------------------------- ids

    def new_token(self) -> Token:
        """Return a token that nobody has had, and nobody can guess."""
        self._tokens += 1
        return token_of(self._secret, self._tokens)

    # -------------------------------------------------------------- ready actions

    @property
    def ready_count(self) -> int:
        """Actions that wait for credit."""
        return sum(len(each.queue) for each in self.classes.values())

    def make_ready(self, run: RunState, ordinal: int) -> None:
        """Queue an action that may be dispatched."""
        action = run.actions[ordinal]
        self.enqueue(run, self._entry(run, ordinal))
        rules = action.rules
        if rules.queued_max_ms:
            due = action.ready_ns // 1_000_000 + rules.queued_max_ms
            self.timers.add(Due(due, "queued", run.id, ordinal, action.attempt))

    def next_ms(self) -> int | None:
        """Return when something is due by the clock, Unix ms."""
        dues = (
            self.timers.next_ms,
            self.late.kept.next_ms,
            self.expected.next_ms,
            self.unheard_of.next_ms,
            self.not_coming.next_ms,
        )
        return min((due for due in dues if due is not None), default=None)

    def settled(self, selector: Selector) -> Selector:
        """Return `selector` with a queue turned into the pool that serves it now."""
        if not selector.pool.startswith(QUEUE):
            return selector
        return settled(selector, {seat.hello.pool for seat in self.seats.values()})

    def _entry(self, run: RunState, ordinal: int) -> Ready:
        action = run.actions[ordinal]
        again = RANK_RETRY if action.attempt > 1 else RANK_NEW
        rank = RANK_EVICTED if action.evicted else again
        depth = self.depths[run.id][ordinal]
        return Ready(rank, -depth, ordinal, action.attempt, run.id)

    def enqueue(self, run: RunState, ready: Ready) -> None:
        """Put a ready entry into the queue of its class."""
        name = queue_name(run, ready.ordinal)
        rules = run.actions[ready.ordinal].rules
        wanted = Wanted(selector_of(rules, self.queues.pool_of(name)), rules.needs)
        key = ClassKey(name, wanted, self.queues.is_new_run(name, run, ready.ordinal))
        group = self.classes.get(key)
        if group is None:
            group = self.classes[key] = ReadyClass(key)
        group.queue.push(run.project, ready)

    def waiting_in(self, name: str) -> int:
        """Return how many ready actions wait in a queue; some may be stale."""
        return sum(len(each.queue) for key, each in self.classes.items() if key[0] == name)

    def full(self, name: str) -> str:
        """Say why a queue takes nothing more; empty: it does."""
        settings = self.queues.settings.get(name)
        if settings is None or not settings.depth or self.waiting_in(name) < settings.depth:
            return ""
        return f"queue {name!r} holds {settings.depth} waiting actions, the most that it may"

    def sort_again(self) -> None:
        """Apply the queues' folded settings: count and queue everything as they say."""
        self.queues = QueueBook(queues_of(self.state.settings))
        self.classes.clear()
        self.aside.clear()
        for run_id in self.depths:
            run = self.state.runs[run_id]
            self.queues.note_run(run)
            waits = run.paused or run_id in self.expected
            for ordinal, action in enumerate(run.actions):
                if self.counts(action):
                    self.queues.note_busy(run, ordinal, 1)
                if action.state in (State.READY, State.HELD) and not waits:
                    self.enqueue(run, self._entry(run, ordinal))

    # -------------------------------------------------------------- counters

    def counts(self, action: ActionState) -> bool:
        """Say whether the action counts against the in-flight limits."""
        token = action.token
        return token != b"" and action.open_children == 0 and token not in self.calling

    def begin_calling(self, run: RunState, ordinal: int) -> None:
        """Count an attempt whose call found its queue full as one that waits, which it does.

        Otherwise it could hold the place that the actions before its child are waiting for.
        """
        action = run.actions[ordinal]
        was = self.counts(action)
        self.calling[action.token] = run.id
        if was:
            self.note_busy(run, ordinal, -1)

    def end_calling(self, run: RunState, ordinal: int) -> None:
        """Count the attempt as it is again: its call is made, or given up."""
        action = run.actions[ordinal]
        if self.calling.pop(action.token, None) is not None and self.counts(action):
            self.note_busy(run, ordinal, 1)

    def note_busy(self, run: RunState, ordinal: int, delta: int) -> None:
        """Move the counters of a run and of the action's parent; wake what was set aside."""
        parent = (run.id, run.actions[ordinal].parent)
        self.queues.note_busy(run, ordinal, delta)
        self.busy_runs[run.id] = self.busy_runs.get(run.id, 0) + delta
        if ordinal:
            self.busy_parents[parent] = self.busy_parents.get(parent, 0) + delta
        if delta < 0:
            self.wake(run, ordinal)

    def limit_hit(self, run: RunState, ordinal: int) -> str | tuple[str, int] | None:
        """Return the counter that forbids a dispatch now, or None."""
        most = run.actions[0].rules.actions_max or self.config.run_in_flight_max
        if self.busy_runs.get(run.id, 0) >= min(most, self.config.run_in_flight_max):
            return run.id
        if ordinal == 0:
            return None
        parent = run.actions[ordinal].parent
        limit = run.actions[parent].rules.children_max or self.config.parent_in_flight_max
        key = (run.id, parent)
        return key if self.busy_parents.get(key, 0) >= limit else None

    def wake(self, run: RunState, ordinal: int) -> None:
        """Let what was set aside try again: one that waits for the run, one for the parent."""
        if self.aside:
            self._wake(run, run.id)
            self._wake(run, (run.id, run.actions[ordinal].parent))

    def _wake(self, run: RunState, key: str | tuple[str, int]) -> None:
        waiting = self.aside.get(key)
        if waiting:
            self.enqueue(run, waiting.popleft())
            if not waiting:
                del self.aside[key]

    # -------------------------------------------------------------- what is taken over

    def success_before(self, run: RunState, action_id: bytes) -> Outcome | None:
        """Return the success that an action of a recovering run takes over, or None."""
        origin, source = run.origin, self._source_of(run)
        if source is None or origin is None or action_id in origin.forced:
            return None
        return source.outcomes.get(action_id)

    def steps_before(self, run: RunState, action_id: bytes) -> tuple[JournalEntry, ...]:
        """Return the steps that an action's attempts recorded in the runs recovered from."""
        origin, source = run.origin, self._source_of(run)
        if source is None or origin is None:
            return ()
        steps = source.steps.get(action_id)
        if not steps:
            return ()
        return tuple(entry for entry in steps.values() if entry.id not in origin.forced)

    def _source_of(self, run: RunState) -> Source | None:
        # A plain rerun names a source too, which another run may be recovering meanwhile.
        origin = run.origin
        return self.sources.get(origin.run) if origin is not None and reuses(origin) else None

    def drop_unused(self, source: str) -> None:
        """Let go of a source that no open run recovers from."""
        if not self.source_users.get(source):
            self.source_users.pop(source, None)
            self.sources.pop(source, None)

    # -------------------------------------------------------------- runs

    def open_run(self, run: RunState) -> None:
        """Set up the memory of a run that has just been created."""
        self.depths[run.id] = [0]
        if run.setting(APP_SETTING):
            self.apps[run.id] = None
        if run.origin is not None and reuses(run.origin):
            self.source_users.setdefault(run.origin.run, set()).add(run.id)
        if run.deadline_ms:
            due = run.created_ns // 1_000_000 + run.deadline_ms
            self.timers.add(Due(due, "run-deadline", run.id))
        self.watch_deadline(run, 0)

    def add_child(self, run: RunState, parent: int) -> None:
        """Set up the memory of an action that has just been added."""
        depths = self.depths[run.id]
        depths.append(depths[parent] + 1)

    def watch_deadline(self, run: RunState, ordinal: int) -> None:
        """Set the timer of the action's own deadline, if it has one."""
        action = run.actions[ordinal]
        if action.rules.deadline_ms:
            due = action.requested_ns // 1_000_000 + action.rules.deadline_ms
            self.timers.add(Due(due, "deadline", run.id, ordinal))

    def watch_trigger(self, key: str) -> None:
        """Set the timer of a trigger's next firing, also of one that was missed."""
        state = self.state.triggers[key]
        if not state.active or state.trigger.schedule is None:
            return
        due_ms = next_after(state.trigger.schedule, state.cursor_ms, state.since_ms)
        if due_ms:
            self.timers.add(Due(due_ms, "trigger", key))

    def close_run(self, run: RunState) -> None:
        """Let go of what was kept for a run that is over."""
        self.queues.forget_run(run)
        self.expected.take(run.id)
        if run.aborted:
            for group in self.classes.values():
                group.queue.drop(run.project, run.id)
        self.apps.pop(run.id, None)
        self.depths.pop(run.id, None)
        self.busy_runs.pop(run.id, None)
        self.aside.pop(run.id, None)
        for ordinal, action in enumerate(run.actions):
            if action.kind == KIND_GRAPH:
                self.walks.pop((run.id, ordinal), None)
            if action.children:
                self.busy_parents.pop((run.id, ordinal), None)
                self.aside.pop((run.id, ordinal), None)
        for token in [token for token, of in self.calling.items() if of == run.id]:
            del self.calling[token]
        self.finished.append(run.id)
        if run.origin is not None and run.origin.run in self.source_users:
            self.source_users[run.origin.run].discard(run.id)
            self.drop_unused(run.origin.run)


def rebuild(
    state: ShardState,
    config: SchedulerConfig,
    secret: bytes,
    sources: Mapping[str, Source] | None = None,
) -> Book:
    """Return the memory of a leader that has just folded the whole log.

    Args:
        state: The folded log.
        config: Settings.
        secret: Drawn once for each epoch; tokens follow from it.
        sources: What the open runs recover from, as `source_reader.read_sources` gives it.
    """
    book = Book(state, config, secret)
    book.sources.update(sources or {})
    for run in state.runs.values():
        if run.decidable and run.actions:
            _rebuild_run(book, run)
    for key, waiting in book.waiting.items():
        book.waiting[key] = dict.fromkeys(sorted(waiting, key=lambda each: _asked(state, each)))
    for trigger in state.triggers:
        book.watch_trigger(trigger)
    return book


def _asked(state: ShardState, each: tuple[str, int]) -> tuple[int, str, int]:
    run, ordinal = each
    return state.runs[run].actions[ordinal].requested_ns, run, ordinal


def waits_for_cache(action: ActionState) -> bool:
    """Say whether the action is held until another one has computed its cache key."""
    return action.state == State.HELD and action.why_held == "cache"


def _rebuild_run(book: Book, run: RunState) -> None:
    book.open_run(run)
    book.queues.note_run(run)
    called = webhooks_called(run)
    for ordinal, action in enumerate(run.actions):
        if ordinal:
            book.add_child(run, action.parent)
            book.watch_deadline(run, ordinal)
        if action.terminal:
            continue
        asked = None if action.condition is None else action.asked
        if asked is not None and asked.webhook and (WEBHOOK, str(ordinal)) not in called:
            book.timers.add(Due(state_ms(book.state), "webhook", run.id, ordinal, 1))
        if action.token:
            book.unclaimed.add(action.agent)
            if book.counts(action):
                book.note_busy(run, ordinal, 1)
        if waits_for_cache(action):
            key = flight_key(run, action.cache_key)
            book.waiting.setdefault(key, {})[run.id, ordinal] = None
        elif action.state in (State.READY, State.HELD):
            if not run.paused:
                book.make_ready(run, ordinal)
        elif action.state == State.WALKING:
            book.to_walk.append((run.id, ordinal, -1))
        elif action.state in (State.BACKOFF, State.WAITING) and action.due_ms:
            what = {State.BACKOFF: "backoff"}.get(State(action.state), action.kind)
            book.timers.add(Due(action.due_ms, what, run.id, ordinal, action.attempt))
        elif action.state in _LIVE and action.rules.runtime_max_ms:
            since_ms = (action.started_ns or action.dispatched_ns) // 1_000_000
            due = since_ms + action.rules.runtime_max_ms
            book.timers.add(Due(due, "runtime", run.id, ordinal, action.attempt))
        elif action.state == State.ABORTING:
            due = state_ms(book.state) + action.rules.grace_ms + GRACE_MARGIN_MS
            book.timers.add(Due(due, "grace", run.id, ordinal, action.attempt))


#: Key of the run's notes that say what came of a condition's webhook: `<ordinal> <outcome>`.
WEBHOOK: Final = "webhook"


def webhooks_called(run: RunState) -> set[tuple[str, str]]:
    """Return `(WEBHOOK, ordinal)` of each condition whose webhook needs no further call."""
    return {(key, text.partition(" ")[0]) for key, text in run.notes if key == WEBHOOK}


#: How long after the grace period the agent's answer to a cancel is waited for.
GRACE_MARGIN_MS: Final = 5_000


def state_ms(state: ShardState) -> int:
    """Return the time of the last frame folded, Unix ms."""
    return state.ts_ns // 1_000_000
