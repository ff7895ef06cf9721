"""Becoming the leader: fold the whole log, then let the log itself decide.

Safety rests on one append: `LeaderElected` with the sequence that we have folded up to. Once
it is in, the former leader's next frame expects a sequence that is gone, and one behind it that
still lands is void by its epoch (docs/decisions/0010). The lease only decides who tries.
"""

import asyncio
from typing import Final

import msgspec

from millstream_events import model as m
from millstream_events.errors import LogFullError, LogUnavailableError, StaleWriterError
from millstream_events.fold import apply_shard, fold_entry
from millstream_events.logs import get_logger
from millstream_events.ports import Appended, AppendResult, Clock, EventLog, StoreFull
from millstream_events.seal import seal
from millstream_events.state import ShardState, collapse
from millstream_events.subjects import SHARD_KEY

log = get_logger("scheduler")

#: A refused election reads on and tries again, this often.
_TRIES_MAX: Final = 5
BUILD: Final = "0.1.0"
_MOVED_BY_ELECTION: Final = [
    "seq",
    "epoch",
    "number",
    "ts_ns",
    "rev",
    "chain",
    "leader",
    "features",
]


async def catch_up(event_log: EventLog, state: ShardState) -> int:
    """Fold everything that the stream leader has; return the number of records folded.

    Runs that are over let go of their actions at once, as with whoever leads when they end.

    Raises:
        LogUnavailableError: The log did not answer.
    """
    folded = 0
    last = await event_log.last()
    goal = 0 if last is None else last.seq
    while state.seq < goal:
        entries = await event_log.read(state.seq)
        if not entries:
            # The tail was removed, or a replica lags: the election's fence decides.
            raise LogUnavailableError(state.shard, f"nothing readable past {state.seq} of {goal}")
        for entry in entries:
            fold_entry(state, entry)
            run = state.runs.get(entry.key)
            if run is not None and run.finished and run.actions:
                collapse(run)
        folded += len(entries)
        await asyncio.sleep(0)  # Let lease renewals through during a long replay.
    return folded


async def elect(event_log: EventLog, state: ShardState, *, node: str, clock: Clock) -> None:
    """Append `LeaderElected` with the next epoch, fenced by what was folded.

    Raises:
        StaleWriterError: Somebody kept appending: another leader is alive.
        LogFullError: There is no room for even this record.
        LogUnavailableError: The log did not answer; nothing is known.
    """
    for _ in range(_TRIES_MAX):
        await catch_up(event_log, state)
        before = msgspec.structs.replace(state)
        state.epoch += 1
        state.number = 0
        elected = m.LeaderElected(0, epoch=state.epoch, node=node, build=BUILD)
        # A trial image: a record that did not get in is undone, one that may have is read back.
        apply_shard(state, elected)
        (frame,) = seal(state, {}, [elected], now_ns=clock.now_ns())
        result = await _append(event_log, frame.payload, before.seq)
        if isinstance(result, Appended):
            log.info("leader_elected", shard=state.shard, epoch=state.epoch, seq=result.seq)
            return
        for name in _MOVED_BY_ELECTION:
            setattr(state, name, getattr(before, name))
        if isinstance(result, StoreFull):
            raise LogFullError(state.shard)
    raise StaleWriterError(state.shard, state.seq)


async def _append(event_log: EventLog, payload: bytes, expected_seq: int) -> AppendResult:
    answered: asyncio.Future[AppendResult] = asyncio.get_running_loop().create_future()

    def sink(result: AppendResult) -> None:
        if not answered.done():
            answered.set_result(result)

    event_log.append(SHARD_KEY, payload, expected_seq, sink)
    return await answered
