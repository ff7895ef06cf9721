"""Audit rules about the cache: hits and single flight (I07, I09, I23-I25)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from millstream_events import model as m
from millstream_events.audit_judge import Judge, ended_already
from millstream_events.audit_records import ActionNote, CacheNote, Standing, value_hash
from millstream_events.phases import Phase


def keep(judge: Judge, ordinal: int, action: ActionNote, output: bytes) -> None:
    """Note a success that later calls may take over."""
    note = judge.note
    kept = judge.cache.setdefault(action.cache_key, {})
    kept[note.place] = CacheNote(note.run, ordinal, output)


def wait(judge: Judge, ordinal: int, action: ActionNote) -> None:
    """Note that an action is held until another one has computed its cache key."""
    key = judge.flights.key_of(judge.note, action)
    if judge.whole and not judge.flights.owner(key):
        judge.breach("I25", f"a{ordinal} is to wait for a result that nobody computes")
    action.awaits_key = True
    judge.flights.wait(judge.note, ordinal, action)


def _cache_hit(judge: Judge, event: m.CacheHit) -> bool:
    action = judge.known(event)
    if action is None or ended_already(judge, event, action):
        return False
    if action.standing is not Standing.READY:
        return False
    output = value_hash(event.output)
    if judge.barred(action):
        judge.breach("I09", f"a{event.action} is taken from the cache after its abort")
    if not event.key or event.key != action.cache_key:
        judge.breach("I23", f"a{event.action} is taken from the cache under another key")
    elif judge.whole:
        _check_source(judge, event, output)
    judge.end(event.action, action, Phase.SUCCEEDED, output)
    return True


def _check_source(judge: Judge, event: m.CacheHit, output: bytes) -> None:
    name = f"a{event.action}"
    kept = judge.cache.get(event.key)
    if kept is None:
        judge.breach("I23", f"nothing was computed under the key of {name}")
        return
    for place, source in kept.items():
        if (source.run, source.action) != (event.source_run, event.source_action):
            continue
        if source.output != output:
            judge.breach("I07", f"{name} has another output than its source")
        if judge.note.scoped and place != judge.note.place:
            judge.breach("I23", f"{name} takes a result of another project or domain")
        return
    text = f"a{event.source_action} of {event.source_run} did not compute what {name} takes over"
    judge.breach("I23", text)


def _reserved(judge: Judge, event: m.CacheReserved) -> bool:
    action = judge.known(event)
    if action is None or action.standing is not Standing.READY:
        return False
    if not action.cache_key or judge.flights.key_of(judge.note, action) != event.key:
        judge.breach("I24", f"a{event.action} reserves a key that is not its own")
        return False
    if judge.barred(action):
        judge.breach("I09", f"a{event.action} reserves a cache key after its abort")
        if judge.note.aborting:
            return False
    owner = judge.flights.owner(event.key)
    if owner:
        judge.breach("I24", f"a{event.action} reserves a cache key that {owner} computes")
        return False
    action.awaits_key = False
    if not judge.flights.reserve(judge.note, event.action, action, event.revision):
        judge.breach("I24", f"the reservation of a{event.action} is no newer than the last one")
    return True


CACHE_RULES: Final[Mapping[type[m.Event], Callable[[Judge, Any], bool]]] = {
    m.CacheHit: _cache_hit,
    m.CacheReserved: _reserved,
}
