"""The auditor's judge of one run: its records, and what every rule needs to say and to ask."""

from millstream_events import model as m
from millstream_events.audit_flights import Flights
from millstream_events.audit_records import ActionNote, CacheNote, RunNote, Say, Standing, Tick


class Judge:
    """Judges the frames of one run after another; one object for the whole log."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.note = RunNote("")
        self.rev = 0
        #: A log of all runs: what is not in it does not exist.
        self.whole = False
        #: Of each cache key, the last success in each project and domain.
        self.cache: dict[bytes, dict[tuple[str, str], CacheNote]] = {}
        self.flights = Flights()

    def begin_frame(self, note: RunNote, tick: Tick) -> None:
        """Go on with a run's next frame: what had to be decided in an earlier tick, was."""
        self.note = note
        self.rev = note.rev
        # In a further frame of one tick nothing has become overdue, and much may be waiting.
        is_new = tick != note.tick
        note.tick = tick
        if note.falling and is_new:
            self._overdue(note.falling, "I15", "failed, and nothing was decided about it")
        if note.untold and is_new:
            self._overdue(note.untold, "I11", "is below something that ended, and was not aborted")
        if self.flights.left:
            self._left_waiting(tick)

    def breach(self, invariant: str, detail: str) -> None:
        """Record a violation at the current event."""
        self._say(invariant, self.note.run, self.rev, detail)

    def action(self, ordinal: int) -> ActionNote | None:
        """Return the record of an action, or None when nobody asked for it."""
        actions = self.note.actions
        return actions[ordinal] if 0 <= ordinal < len(actions) else None

    def known(self, event: m.Event) -> ActionNote | None:
        """Return the record of the event's action; none is a breach of causality."""
        found = self.action(event.action)
        if found is None:
            self.breach("I12", f"{name_of(event)} of a{event.action}, which nobody asked for")
        return found

    def barred(self, action: ActionNote) -> bool:
        """Say whether an abort recorded earlier covers the action."""
        return action.aborted or action.covered or self.note.aborting

    def end(self, ordinal: int, action: ActionNote, outcome: str, output: bytes = b"") -> None:
        """Record the action's effective terminal event."""
        note = self.note
        action.standing = Standing.DONE
        action.token = b""
        action.outcome = outcome
        action.output = output
        note.open -= 1
        note.falling.pop(ordinal, None)
        note.untold.pop(ordinal, None)
        for child in action.children:
            below = note.actions[child]
            if not below.done and not below.aborted and not below.policy.detached:
                note.untold.setdefault(child, note.tick)
        if action.cache_key:
            self.flights.land(note, ordinal, action)

    def fall(self, ordinal: int, action: ActionNote, *, retryable: bool) -> None:
        """Record that the action's attempt is over without success: a decision is due."""
        action.token = b""
        action.retryable = retryable
        action.standing = Standing.FALLING
        self.note.falling[ordinal] = self.note.tick

    def cover(self, ordinal: int, *, everything: bool = False) -> None:
        """Note that an abort covers what is below an action: all of that must be told."""
        note = self.note
        pending = list(note.actions[ordinal].children)
        while pending:
            child = pending.pop()
            action = note.actions[child]
            if action.covered or (action.policy.detached and not everything):
                continue
            action.covered = True
            if not action.done and not action.aborted:
                note.untold[child] = note.tick
            pending.extend(action.children)

    def _left_waiting(self, tick: Tick) -> None:
        """I25: whoever waited for the owner of a cache key is decided about when it is over."""
        for key, (then_epoch, then_ns) in list(self.flights.left.items()):
            if then_epoch != tick[0]:
                self.flights.left[key] = tick
            elif then_ns < tick[1]:
                del self.flights.left[key]
                for note, ordinal in self.flights.waiting(key):
                    text = f"a{ordinal} waits for a cached result that nobody computes"
                    self._say("I25", note.run, note.rev, text)

    def _overdue(self, waiting: dict[int, Tick], invariant: str, text: str) -> None:
        epoch, ts_ns = self.note.tick
        for ordinal, (then_epoch, then_ns) in list(waiting.items()):
            if then_epoch != epoch:
                # The leader died within the tick; its successor makes up for it.
                waiting[ordinal] = (epoch, ts_ns)
            elif then_ns < ts_ns:
                del waiting[ordinal]
                self.breach(invariant, f"a{ordinal} {text}")


def ended_already(judge: Judge, event: m.Event, action: ActionNote) -> bool:
    """Say whether the action is over, which makes one more end a breach."""
    if action.done:
        judge.breach("I04", f"a{event.action} is {action.outcome}; {name_of(event)} ends it again")
    return action.done


def name_of(event: m.Event) -> str:
    """Return the name of the event's type, as people see it."""
    return type(event).__name__


def count_items(
    judge: Judge, event: m.AttemptSucceeded | m.ActionRecovered, action: ActionNote
) -> None:
    """Require of a success that it accounts for the items that were asked for, and no others."""
    items = event.items
    name = f"a{event.action}"
    if items is None or not action.items:
        if items is not None or action.items:
            judge.breach("I15", f"{name} of {action.items} items ends without a count, or with one")
    elif items.total != action.items:
        judge.breach("I15", f"{name} counts {items.total} items; {action.items} were asked for")
    elif min(items.succeeded, items.failed) < 0 or items.succeeded + items.failed > items.total:
        judge.breach("I15", f"{name} counts {items.succeeded} + {items.failed} of {items.total}")
