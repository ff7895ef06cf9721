"""The writer's half of the fold: events that were applied become frames.

`fold.apply` has moved the revision already; sealing encodes, numbers and chains what one tick
decided, so that a reader who folds the frames arrives at exactly the writer's state.
"""

from collections.abc import Mapping, Sequence

import msgspec

from millstream_events.codec import encode_frame
from millstream_events.ids import chain_hash
from millstream_events.model import FRAME_BYTES_MAX, FRAME_EVENTS_MAX, Event
from millstream_events.state import RunState, ShardState
from millstream_events.subjects import SHARD_KEY


class Sealed(msgspec.Struct, frozen=True):
    """One frame, ready to be appended."""

    key: str
    payload: bytes
    number: int
    #: The log's last sequence before it.
    expected_seq: int
    events: int


def seal(
    shard: ShardState,
    by_run: Mapping[str, Sequence[Event]],
    own: Sequence[Event],
    *,
    now_ns: int,
) -> list[Sealed]:
    """Return the frames of one tick, and advance the shard past them.

    Args:
        shard: Its `epoch`, `number` and `seq` are the writer's.
        by_run: Events of each run, applied, in order.
        own: Events of the shard itself, applied, in order; they go first.
        now_ns: The tick's hybrid clock, with which the events were applied.
    """
    if own or by_run:
        shard.ts_ns = max(shard.ts_ns, now_ns)
    frames: list[Sealed] = []
    if own:
        shard.chain = _seal_key(
            shard, frames, SHARD_KEY, own, first_rev=shard.rev - len(own) + 1, chain=shard.chain
        )
    for run_id, events in by_run.items():
        run: RunState = shard.runs[run_id]
        first_rev = run.rev - len(events) + 1
        run.chain = _seal_key(shard, frames, run_id, events, first_rev=first_rev, chain=run.chain)
    return frames


def _seal_key(
    shard: ShardState,
    frames: list[Sealed],
    key: str,
    events: Sequence[Event],
    *,
    first_rev: int,
    chain: bytes,
) -> bytes:
    """Append the frames of one key to `frames` and return the key's new chain hash."""
    done = 0
    while done < len(events):
        take = min(FRAME_EVENTS_MAX, len(events) - done)
        while True:
            payload = encode_frame(
                epoch=shard.epoch,
                number=shard.number + 1,
                ts_ns=shard.ts_ns,
                rev=first_rev + done,
                prev=chain,
                events=events[done : done + take],
            )
            if len(payload) <= FRAME_BYTES_MAX or take == 1:
                break
            take = (take + 1) // 2
        frames.append(Sealed(key, payload, shard.number + 1, shard.seq, take))
        chain = chain_hash(payload)
        shard.number += 1
        shard.seq += 1
        done += take
    return chain
