"""One tick's decision in the making: what is recorded, and what is to be done.

`record` is the only way from a decision to the state: the event is folded at once, so that the
next decision of the same tick sees it, and kept for the frame that will carry it.
"""

from collections import defaultdict

from millstream_events import model as m
from millstream_events.fold import apply, apply_shard
from millstream_events.reports import Order
from millstream_events.seal import Sealed, seal
from millstream_events.state import RunState, flight_key
from millstream_scheduler.book import Book
from millstream_scheduler.effects import Effects


class Turn:
    """Decision(events, effects) of one tick."""

    def __init__(self, book: Book, *, now_ns: int, monotonic_ns: int) -> None:
        self.book = book
        self.state = book.state
        #: Hybrid clock: Unix time that never goes back within a shard.
        self.now_ns = max(now_ns, book.state.ts_ns)
        self.now_ms = self.now_ns // 1_000_000
        #: The leader's own clock, for silences.
        self.monotonic_ns = monotonic_ns
        #: Events not sealed yet, of each run in order; one frame each, or several for many.
        self._events: defaultdict[str, list[m.Event]] = defaultdict(list)
        self._shard_events: list[m.Event] = []
        self._frames: list[Sealed] = []
        #: Cache keys that events not sealed yet write or read, and the run that does (`*`:
        #: several).
        self._written: dict[bytes, str] = {}
        self._read: dict[bytes, str] = {}
        #: Reserved cache keys whose owner has ended in this tick.
        self.landed: list[bytes] = []
        #: Attempts of a run by token, as they were when one was looked for, and those adopted
        #: since without a seat; see `assign.ordinal_of`.
        self.by_token: dict[str, dict[bytes, int]] = {}
        #: Every event of the tick, in order.
        self.recorded: list[m.Event] = []
        self.effects = Effects()
        #: Nothing follows from it yet, and the rest of it is about to come: it need not end now.
        self.is_open = False

    @property
    def silent(self) -> bool:
        """Whether nobody is to be told anything, now or when the turn is durable."""
        effects = self.effects
        return not (
            effects.agents_now
            or effects.agents_durable
            or effects.clients_now
            or effects.clients_durable
            or effects.acks
            or effects.blobs
        )

    def record(self, run: RunState, event: m.Event) -> bool:
        """Record `event` and fold it; say whether it took effect."""
        book = self.book
        known = event.action < len(run.actions)
        parent_of = event.parent if isinstance(event, _BIRTHS) else None
        if parent_of is None:
            parent_of = run.actions[event.action].parent if known else 0
        was_parent = bool(run.actions) and book.counts(run.actions[parent_of])
        was = known and book.counts(run.actions[event.action])
        key = run.actions[event.action].cache_key if known else b""
        flight = self._touch(run, event, key) if key else b""
        effective = apply(self.state, run, event, self.now_ns)
        self._events[run.id].append(event)
        self.recorded.append(event)
        if flight and flight not in self.state.flights:
            self.landed.append(flight)
        if event.action < len(run.actions):
            delta = book.counts(run.actions[event.action]) - was
            if delta:
                book.note_busy(run, event.action, delta)
            if parent_of != event.action:
                delta = book.counts(run.actions[parent_of]) - was_parent
                if delta:
                    book.note_busy(run, parent_of, delta)
        return effective

    def record_shard(self, event: m.Event) -> None:
        """Record an event of the shard itself."""
        apply_shard(self.state, event)
        self._shard_events.append(event)

    def frames(self) -> list[Sealed]:
        """Seal what is recorded and return all frames of the tick, in order. Ends the turn."""
        self.seal()
        return self._frames

    def seal(self) -> None:
        """Close the frames of what is recorded so far: the log keeps its order with the rest."""
        self._frames += seal(self.state, self._events, self._shard_events, now_ns=self.now_ns)
        self._events.clear()
        self._shard_events.clear()
        self._written.clear()
        self._read.clear()

    def _touch(self, run: RunState, event: m.Event, key: bytes) -> bytes:
        """Keep the order of what two runs do with one cache key; return who computes it.

        A tick's frames go run by run, so what two runs write to the shard's own state, or what
        one reads of the other, would be in the log in another order than it was decided in:
        the first one's frames are closed.

        Returns:
            The flight key if somebody computes it; else nothing.
        """
        flight = flight_key(run, key)
        owner = self.state.flights.get(flight)
        computes = owner is not None and (owner.run, owner.action) == (run.id, event.action)
        if computes or isinstance(event, CACHE_WRITES):
            if self._written.get(key, run.id) != run.id or self._read.get(key, run.id) != run.id:
                self.seal()
            self._written[key] = run.id
        elif isinstance(event, CACHE_READS):
            if self._written.get(key, run.id) != run.id:
                self.seal()
            self._read[key] = run.id if self._read.get(key, run.id) == run.id else "*"
        return flight if owner is not None else b""

    def order_now(self, agent: str, order: Order) -> None:
        """Tell an agent at the end of the tick."""
        self.effects.agents_now[agent].append(order)

    def order_durable(self, agent: str, order: Order) -> None:
        """Tell an agent once this tick's frames are durable."""
        self.effects.agents_durable[agent].append(order)


#: What writes the cache or a reservation; the end of whoever computes a key does so as well.
CACHE_WRITES = (m.AttemptSucceeded, m.GraphSucceeded, m.CacheReserved)
CACHE_READS = (m.CacheHit, m.ActionHeld)
_BIRTHS = (m.ActionRequested, m.TraceRecorded, m.TimerSet, m.ConditionOpened)
