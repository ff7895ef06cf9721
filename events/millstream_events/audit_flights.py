"""What the auditor remembers of reserved cache keys: who computes them, and who waits."""

from millstream_events.audit_records import ActionNote, RunNote, Standing, Tick
from millstream_events.state import scoped_key


class Flights:
    """Reservations of cache keys, across all runs of a log."""

    def __init__(self) -> None:
        self._owners: dict[bytes, tuple[RunNote, int, ActionNote]] = {}
        self._revisions: dict[bytes, int] = {}
        self._waiting: dict[bytes, list[tuple[RunNote, int, ActionNote]]] = {}
        #: Keys whose owner ended while others waited, and when: must not outlive the tick.
        self.left: dict[bytes, Tick] = {}

    def key_of(self, note: RunNote, action: ActionNote) -> bytes:
        """Return the key that the action would reserve."""
        return scoped_key(action.cache_key, *note.place) if note.scoped else action.cache_key

    def owner(self, key: bytes) -> str:
        """Return who computes the key, in words; empty: nobody who can be judged."""
        found = self._owners.get(key)
        if found is None or found[0].broken or found[2].done:
            return ""
        return f"a{found[1]} of {found[0].run}"

    def reserve(self, note: RunNote, ordinal: int, action: ActionNote, revision: int) -> bool:
        """Note a reservation; say whether its revision is higher than those before."""
        key = self.key_of(note, action)
        self._owners[key] = (note, ordinal, action)
        self.left.pop(key, None)
        before = self._revisions.get(key, -1)
        self._revisions[key] = max(before, revision)
        return revision > before

    def wait(self, note: RunNote, ordinal: int, action: ActionNote) -> None:
        """Note that the action waits for its key."""
        waiting = self._waiting.setdefault(self.key_of(note, action), [])
        waiting.append((note, ordinal, action))

    def land(self, note: RunNote, ordinal: int, action: ActionNote) -> None:
        """Note the action's end: with it its reservation ends, if it has one."""
        key = self.key_of(note, action)
        owner = self._owners.get(key)
        if owner is None or owner[:2] != (note, ordinal):
            return
        del self._owners[key]
        if self.waiting(key):
            self.left[key] = note.tick

    def waiting(self, key: bytes) -> list[tuple[RunNote, int]]:
        """Return who still waits for the key and may go on, and forget the others."""
        still = [
            each
            for each in self._waiting.pop(key, ())
            if each[2].awaits_key and each[2].standing is Standing.READY
        ]
        if still:
            self._waiting[key] = still
        return [(note, n) for note, n, _ in still if not note.paused and not note.broken]
