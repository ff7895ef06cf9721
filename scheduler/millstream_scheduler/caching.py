"""Taking outcomes from the cache, and computing each key once while others wait for it.

A reservation (`CacheReserved`) is in the log and ends with its action, so it needs no lease: a
leader that takes over finds who computes what, and who waits. Waiting closes no circle: an
action that would wait for something above it, or for what waits for that, computes by itself.
"""

from typing import Final

from millstream_events import model as m
from millstream_events.ids import Digest
from millstream_events.phases import State
from millstream_events.state import (
    ActionState,
    CacheEntry,
    Flight,
    RunState,
    flight_key,
    is_scoped,
    owner_of,
    scoped_key,
)
from millstream_events.values import CACHE_SERIALIZED, CACHE_STORE_ONLY, Blob
from millstream_scheduler.book import BLOBS_SEEN_MAX, waits_for_cache
from millstream_scheduler.graphs import set_going
from millstream_scheduler.outcomes import action_ended
from millstream_scheduler.recovery import recover
from millstream_scheduler.turn import Turn

#: How long a look at the blob that a cached result lies in counts.
BLOB_SEEN_NS: Final = 60 * 1_000_000_000


def in_force(settings: tuple[tuple[str, str], ...], key: bytes, mode: int) -> tuple[bytes, int]:
    """Return an action's cache key and mode under its run's settings; an empty key: no cache."""
    chosen = next((value for name, value in settings if name == "cache"), "")
    if chosen == "disable":
        return b"", mode
    return key, CACHE_STORE_ONLY if chosen == "overwrite" else mode


def look_up(turn: Turn, run: RunState, ordinal: int) -> None:
    """Take an outcome from the run recovered or the cache, wait for it, or be made ready.

    Args:
        turn: The tick.
        run: The run.
        ordinal: An action that is READY, or that waits for the cache.
    """
    action = run.actions[ordinal]
    if ordinal and recover(turn, run, ordinal):
        return
    if action.cache_key and action.cache_mode != CACHE_STORE_ONLY:
        hit = _entry_for(turn, run, action)
        if hit is not None and isinstance(hit.output, Blob):
            # What was stored since the action was asked for needs no look.
            fresh = hit.stored_ns >= action.requested_ns
            is_there = True if fresh else _seen(turn, hit.output.digest)
            if is_there is None:
                turn.effects.blobs.add(hit.output.digest)
                turn.book.looking.setdefault(hit.output.digest, {})[run.id, ordinal] = None
                return
            hit = hit if is_there else None
        if hit is not None:
            _hit(turn, run, ordinal, hit)
            return
        serialized = action.cache_mode == CACHE_SERIALIZED and not run.paused
        if serialized and not _may_compute(turn, run, ordinal):
            return
    if not run.paused:
        set_going(turn, run, ordinal)


def resume(turn: Turn, run: RunState, ordinal: int) -> None:
    """Go on with an open action of a run that was paused."""
    action = run.actions[ordinal]
    if _is_new(action) or waits_for_cache(action):
        look_up(turn, run, ordinal)
    else:
        set_going(turn, run, ordinal)


def wake(turn: Turn) -> None:
    """Give the outcome of ended owners to those who waited, or let the next one compute."""
    while turn.landed:
        _wake_key(turn, turn.landed.pop(0))


def take_up(turn: Turn) -> None:
    """Decide again, as a new leader, what the former one may not have recorded any more."""
    for key in list(turn.book.waiting):
        if owner_of(turn.state, key) is None:
            _wake_key(turn, key)
    for run_id in list(turn.book.depths):
        run = turn.state.runs[run_id]
        for ordinal, action in enumerate(run.actions):
            if action.state == State.READY and _is_new(action) and not run.paused:
                look_up(turn, run, ordinal)


def hear_blobs(turn: Turn, found: tuple[tuple[Digest, bool], ...]) -> None:
    """Go on with what waited for a look into the blob store."""
    book = turn.book
    for digest, is_there in found:
        book.blobs_seen.pop(digest, None)
        book.blobs_seen[digest] = (turn.monotonic_ns, is_there)
        if len(book.blobs_seen) > BLOBS_SEEN_MAX:
            del book.blobs_seen[next(iter(book.blobs_seen))]
        for run_id, ordinal in book.looking.pop(digest, ()):
            run = turn.state.runs.get(run_id)
            if run is None or not run.decidable:
                continue
            action = run.actions[ordinal]
            if (action.state == State.READY and _is_new(action)) or waits_for_cache(action):
                look_up(turn, run, ordinal)


def _is_new(action: ActionState) -> bool:
    """Say whether nothing was dispatched yet of an action that the cache may answer."""
    asks = action.cache_key != b"" and action.cache_mode != CACHE_STORE_ONLY
    return asks and action.attempt == 1 and not action.history


def _hit(turn: Turn, run: RunState, ordinal: int, entry: CacheEntry) -> None:
    action = run.actions[ordinal]
    turn.record(
        run,
        m.CacheHit(
            ordinal,
            0,
            action.last_rev,
            key=action.cache_key,
            source_run=entry.run,
            source_action=entry.action,
            output=entry.output,
        ),
    )
    action_ended(turn, run, ordinal)


def _entry_for(turn: Turn, run: RunState, action: ActionState) -> CacheEntry | None:
    cache = turn.state.cache
    entry = cache.get(action.cache_key)
    if is_scoped(run) and (
        entry is None or (entry.project, entry.domain) != (run.project, run.domain)
    ):
        entry = cache.get(scoped_key(action.cache_key, run.project, run.domain))
    max_age_ms = action.rules.cache_max_age_ms
    if entry is None or not max_age_ms:
        return entry
    return entry if turn.now_ns - entry.stored_ns <= max_age_ms * 1_000_000 else None


def _seen(turn: Turn, digest: Digest) -> bool | None:
    """Say whether the blob is there; None: nobody has looked lately."""
    seen_ns, is_there = turn.book.blobs_seen.get(digest, (0, False))
    return is_there if seen_ns and turn.monotonic_ns - seen_ns <= BLOB_SEEN_NS else None


# ------------------------------------------------------------------ single flight


def _may_compute(turn: Turn, run: RunState, ordinal: int) -> bool:
    """Say whether the action computes its key now; otherwise it is held."""
    action = run.actions[ordinal]
    key = flight_key(run, action.cache_key)
    owner = owner_of(turn.state, key)
    if owner is None:
        revision = turn.state.flight_revision + 1
        turn.record(run, m.CacheReserved(ordinal, 0, action.last_rev, key=key, revision=revision))
        return True
    if (owner.run, owner.action) == (run.id, ordinal):
        return True
    if not waits_for_cache(action):
        if _closes_circle(turn, run, ordinal, owner):
            return True
        reason = f"the same call is computed already, by a{owner.action} of {owner.run} first"
        turn.record(run, m.ActionHeld(ordinal, 0, action.last_rev, why="cache", reason=reason))
    turn.book.waiting.setdefault(key, {})[run.id, ordinal] = None
    return False


def _wake_key(turn: Turn, key: bytes) -> None:
    for run_id, ordinal in turn.book.waiting.pop(key, {}):
        run = turn.state.runs.get(run_id)
        # A run that is over may have let go of its actions; one that is paused looks again
        # when it goes on.
        if run is None or not run.decidable or not waits_for_cache(run.actions[ordinal]):
            continue
        look_up(turn, run, ordinal)


def _closes_circle(turn: Turn, run: RunState, ordinal: int, owner: Flight) -> bool:
    """Say whether waiting for `owner` would wait for something above the action itself.

    Only below an action that others may wait for: elsewhere nothing waits for what is above.
    """
    above = _lineage(run, run.actions[ordinal].parent)
    if not any(_computes(turn, run, each) for _, each in above):
        return False
    pending, seen = [(owner.run, owner.action)], set[tuple[str, int]]()
    while pending:
        each = pending.pop()
        if each in above:
            return True
        if each in seen:
            continue
        seen.add(each)
        # It may wait for whatever is below it; and what is held there, for an owner.
        for key, waiting in turn.book.waiting.items():
            flight = owner_of(turn.state, key)
            if flight is not None and any(_is_below(turn, held, each) for held in waiting):
                pending.append((flight.run, flight.action))
    return False


def _computes(turn: Turn, run: RunState, ordinal: int) -> bool:
    key = run.actions[ordinal].cache_key
    flight = owner_of(turn.state, flight_key(run, key)) if key else None
    return flight is not None and (flight.run, flight.action) == (run.id, ordinal)


def _is_below(turn: Turn, held: tuple[str, int], top: tuple[str, int]) -> bool:
    run = turn.state.runs.get(held[0])
    if run is None or held[0] != top[0] or not run.actions:
        return False
    return top in _lineage(run, held[1])


def _lineage(run: RunState, ordinal: int) -> set[tuple[str, int]]:
    """Return an action and all above it."""
    found = {(run.id, ordinal)}
    while ordinal:
        ordinal = run.actions[ordinal].parent
        found.add((run.id, ordinal))
    return found
