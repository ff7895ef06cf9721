"""One tick: what came in, in; events and effects, out. No I/O, no clock, no randomness.

The order inside a tick is fixed (rule F8): reports, then commands, then timers, then placement.
A report that has arrived therefore wins over a timeout that is due in the same tick. Runs that an
agent has got as well come before the reports, which may tell of their beginning.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from millstream_events.commands import ClientBatch
from millstream_events.ids import Digest
from millstream_events.model import ShardEvent
from millstream_events.reports import AgentBatch
from millstream_scheduler.book import Book
from millstream_scheduler.caching import hear_blobs, wake
from millstream_scheduler.dispatch import place
from millstream_scheduler.hear_commands import hear_commands
from millstream_scheduler.hear_reports import ask_for_introductions, hear_reports
from millstream_scheduler.outcomes import end_waiting
from millstream_scheduler.publishing import settle_artifacts
from millstream_scheduler.repair import repair
from millstream_scheduler.sources import Reading, Source
from millstream_scheduler.timeouts import (
    check_silence,
    fire_timers,
    give_up_unclaimed,
    hold_unmatched,
)
from millstream_scheduler.turn import Turn
from millstream_scheduler.walking import walk_on

#: Silences and unmatched work are looked at this often.
LOOK_ROUND_MS: Final = 500


class Inputs(msgspec.Struct):
    """Everything that a tick decides upon, beside the leader's memory."""

    #: Unix time and the leader's monotonic clock.
    now_ns: int
    monotonic_ns: int
    #: (pool, agent, batch) as they came in.
    reports: Sequence[tuple[str, str, AgentBatch]] = ()
    commands: Sequence[ClientBatch] = ()
    #: What the submissions among `commands` recover from, as far as it was read for them.
    sources: Mapping[str, Reading] = {}
    #: Events of the shard itself that its own process reports: snapshots.
    notes: Sequence[ShardEvent] = ()
    #: Answers to `Effects.blobs`: is the blob there?
    blobs: tuple[tuple[Digest, bool], ...] = ()
    #: Too many bytes or ticks are unacknowledged.
    overloaded: bool = False
    #: `<node>#<pid>` of the leader.
    node: str = ""
    #: Time to look at silences and unmatched work.
    look_round: bool = False
    #: The leader's first tick: follow-ups that the former leader lost are decided again.
    took_over: bool = False
    #: The connection was lost and is back: what was said last may not have arrived.
    reconnected: bool = False
    #: The adoption window has just closed.
    adoption_over: bool = False


def decide(book: Book, inputs: Inputs, opened: Turn | None = None) -> tuple[Turn, bool]:
    """Decide one tick.

    Args:
        book: The leader's memory.
        inputs: What to decide upon.
        opened: The last turn, if it was left open: this tick goes on with it.

    Returns:
        The turn with its events (folded already) and effects, and whether something was left
        over because a bound was reached: then another tick is due at once, or `go_on`.
    """
    turn = opened or Turn(book, now_ns=inputs.now_ns, monotonic_ns=inputs.monotonic_ns)
    turn.monotonic_ns = inputs.monotonic_ns
    if inputs.took_over:
        repair(turn)
    if inputs.reconnected:
        ask_for_introductions(turn)
    for run, reading in inputs.sources.items():
        if isinstance(reading, Source):
            book.sources.setdefault(run, reading)
    overloaded = inputs.overloaded or book.ready_count > book.config.ready_max
    early = [batch for batch in inputs.commands if batch.agent]
    _hear_clients(turn, early, inputs, overloaded=overloaded)
    for pool, agent, batch in inputs.reports:
        hear_reports(turn, pool, agent, batch)
    others = [batch for batch in inputs.commands if not batch.agent]
    _hear_clients(turn, others, inputs, overloaded=overloaded)
    for run in inputs.sources:
        book.drop_unused(run)
    for note in inputs.notes:
        turn.record_shard(note)
    hear_blobs(turn, inputs.blobs)
    if inputs.adoption_over:
        give_up_unclaimed(turn)
    fire_timers(turn)
    if inputs.look_round and not book.endings:
        check_silence(turn)
        hold_unmatched(turn)
    settle_artifacts(turn)
    settle(turn)
    more = _finish(turn)
    # Most often the agent's word comes before anybody waits for this: one frame holds both.
    turn.is_open = bool(early) and opened is None and turn.silent and not more
    return turn, more


def go_on(book: Book, *, monotonic_ns: int) -> tuple[Turn, bool]:
    """Decide a further step of a tick that is not over, as `decide` does; `Book.endings` says so.

    Its events have the time of the tick's first ones, and nothing that has come in meanwhile is
    heard before it is over: to the log, and to whoever decides, it is one tick.
    """
    turn = Turn(book, now_ns=book.state.ts_ns, monotonic_ns=monotonic_ns)
    return turn, _finish(turn)


def _finish(turn: Turn) -> bool:
    """End the tick if it can be ended now; say whether more is left to be done."""
    book = turn.book
    end_waiting(turn)
    settle(turn)
    if book.endings:
        return True
    left = place(turn)
    return left or bool(book.to_walk)


def _hear_clients(
    turn: Turn, batches: Sequence[ClientBatch], inputs: Inputs, *, overloaded: bool
) -> None:
    for batch in batches:
        hear_commands(turn, batch, overloaded=overloaded, node=inputs.node, sources=inputs.sources)


def settle(turn: Turn) -> None:
    """Follow up what ended in this tick until nothing more follows."""
    while turn.landed or turn.book.to_walk:
        wake(turn)
        walk_on(turn)
