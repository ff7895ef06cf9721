"""Who writes the shard's cache is known where the order of a tick's frames is kept."""

from sim_world import SHARD, World

from millstream_events.codec import decode_frame
from millstream_events.fold import fold_entry
from millstream_events.state import ShardState
from millstream_events.subjects import SHARD_KEY
from millstream_scheduler.turn import CACHE_WRITES

SEEDS = range(60)


def test_whatever_changes_the_cache_is_listed_and_whatever_is_listed_changes_it() -> None:
    seen: set[type] = set()
    for seed in SEEDS:
        world = World(30_000 + seed, graphs=True, cached=True)
        world.live(steps=150)
        state = ShardState(SHARD)
        for entry in world.log:
            before = dict(state.cache), set(state.flights)
            fold_entry(state, entry)
            gained = set(state.flights) - before[1]
            if entry.key == SHARD_KEY or (state.cache == before[0] and not gained):
                continue
            frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
            writers = {type(event) for event in frame.events if isinstance(event, CACHE_WRITES)}
            assert writers, (seed, entry.seq, [type(event).__name__ for event in frame.events])
            if len(writers) == 1:
                seen |= writers
    assert seen == set(CACHE_WRITES)
