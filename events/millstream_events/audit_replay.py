"""The two invariants that need the fold itself: clocks decide nothing, snapshots change nothing.

The log is folded three times side by side: as it is; with every wall-clock field flattened
(I18); and through a snapshot, encoded and decoded, at positions 1, 2, 4, 8, ... (I28). A run
is compared when it is over and then let go of; the rest at the end.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import msgspec

from millstream_events import model as m
from millstream_events.audit_records import Say
from millstream_events.codec import OpaqueFrame, decode_frame, encode, encode_frame
from millstream_events.errors import LogCorruptError
from millstream_events.fold import fold_entry
from millstream_events.ids import RunId, chain_hash, shard_of
from millstream_events.model import CHAIN_START
from millstream_events.ports import LogEntry
from millstream_events.state import (
    ActionState,
    AttemptRecord,
    RunState,
    ShardState,
    collapse,
    state_hash,
)
from millstream_events.subjects import SHARD_KEY

Fold: TypeAlias = Callable[[ShardState, LogEntry], bool]

_decoder: Final = msgspec.msgpack.Decoder(ShardState)
#: Follows no frame.
_NO_CHAIN: Final = b"\xff" * 16


def _time_fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(
        name for name in kind.__struct_fields__ if name.endswith("_ns") or name == "due_ms"
    )


_EVENT_TIMES: Final[Mapping[type[msgspec.Struct], tuple[str, ...]]] = {
    kind: _time_fields(kind)
    for kind in (
        m.AttemptStarted,
        m.AttemptSucceeded,
        m.AttemptFailed,
        m.RetryScheduled,
        m.TraceRecorded,
        m.ConditionOpened,
        m.TimerSet,
        m.TimerFired,
    )
}
_ACTION_TIMES: Final = _time_fields(ActionState)
_RECORD_TIMES: Final = _time_fields(AttemptRecord)
_RUN_TIMES: Final = _time_fields(RunState)


class ReplayAudit:
    """Folds a log in three ways and compares."""

    def __init__(self, say: Say, fold: Fold = fold_entry) -> None:
        self._say = say
        self._fold = fold
        self._plain = ShardState("")
        self._timeless = ShardState("")
        self._restored = ShardState("")
        #: Key -> hash of its last frame as written, and as flattened.
        self._chains: dict[str, tuple[bytes, bytes]] = {}
        self._folded = 0
        self._next_cut: int = 1

    def take(self, entry: LogEntry) -> None:
        """Fold the next entry in all three ways."""
        if not self._plain.shard and entry.key != SHARD_KEY:
            # Frames do not name their shard, run ids do; the hash of the state covers the name.
            for shard in (self._plain, self._timeless, self._restored):
                shard.shard = shard_of(RunId(entry.key))
        self._check_snapshots(entry)
        flat = self._flatten(entry)
        counted = self._fold(self._plain, entry)
        self._fold(self._timeless, flat)
        self._fold(self._restored, entry)
        if counted:
            self._chains[entry.key] = chain_hash(entry.payload), chain_hash(flat.payload)
        self._folded += 1
        if self._folded == self._next_cut:
            self._next_cut *= 2
            self._restored = _decoder.decode(encode(self._restored))
        run = self._plain.runs.get(entry.key)
        if run is not None and run.finished and run.actions:
            self._compare(entry.key)
            for shard in (self._plain, self._timeless, self._restored):
                other = shard.runs.get(entry.key)
                if other is not None and other.finished:
                    collapse(other)

    def end(self) -> None:
        """Compare what is left: open runs, and the shard's own fields."""
        for key in self._plain.runs:
            self._compare(key)
        plain, timeless, restored = (
            msgspec.structs.replace(shard, runs={}, seq=0)
            for shard in (self._plain, self._timeless, self._restored)
        )
        if encode(plain) != encode(restored):
            self._say("I28", SHARD_KEY, plain.rev, "a snapshot of the shard differs from its log")
        if _flat_shard(plain) != _flat_shard(timeless):
            self._say("I18", SHARD_KEY, plain.rev, "the shard's state depends on a clock")

    def _compare(self, key: str) -> None:
        plain = self._plain.runs[key]
        restored = self._restored.runs.get(key)
        if restored is None or encode(restored) != encode(plain):
            self._say("I28", key, plain.rev, "folding on from a snapshot gives another state")
        timeless = self._timeless.runs.get(key)
        if timeless is None or _flat_run(timeless) != _flat_run(plain):
            self._say("I18", key, plain.rev, "the state depends on a clock")

    def _check_snapshots(self, entry: LogEntry) -> None:
        if entry.key != SHARD_KEY or not self._plain.shard:
            return
        frame = _decoded(entry)
        for event in frame.events if isinstance(frame, m.Frame) else ():
            # Later positions are gone by: a full check of those is `replay`'s business.
            if not isinstance(event, m.SnapshotTaken) or event.seq != self._plain.seq:
                continue
            if event.state_hash != state_hash(self._plain):
                text = f"the snapshot at sequence {event.seq} is of another state"
                self._say("I28", SHARD_KEY, self._plain.rev, text)

    def _flatten(self, entry: LogEntry) -> LogEntry:
        frame = _decoded(entry)
        if not isinstance(frame, m.Frame):
            return entry
        written, flattened = self._chains.get(entry.key, (CHAIN_START, CHAIN_START))
        payload = encode_frame(
            epoch=frame.epoch,
            number=frame.number,
            ts_ns=1,
            rev=frame.rev,
            prev=flattened if frame.prev == written else _NO_CHAIN,
            events=[_flat_event(event) for event in frame.events],
        )
        return msgspec.structs.replace(entry, payload=payload, stored_ns=0)


def _decoded(entry: LogEntry) -> m.Frame | OpaqueFrame | None:
    try:
        return decode_frame(entry.payload, key=entry.key, seq=entry.seq)
    except LogCorruptError:
        return None  # Reported as I03; the fold quarantines the run.


def _flat_event(event: m.Event) -> m.Event:
    times = _EVENT_TIMES.get(type(event))
    # 0 means "never" or "at once", which is no time; every other instant becomes the same one.
    return msgspec.structs.replace(event, **_flat(event, times)) if times else event


def _flat(struct: msgspec.Struct, times: tuple[str, ...]) -> dict[str, int]:
    return {name: int(getattr(struct, name) != 0) for name in times}


def _flat_run(run: RunState) -> bytes:
    actions = [
        msgspec.structs.replace(
            action,
            history=[
                msgspec.structs.replace(record, **_flat(record, _RECORD_TIMES))
                for record in action.history
            ],
            **_flat(action, _ACTION_TIMES),
        )
        for action in run.actions
    ]
    image = msgspec.structs.replace(run, actions=actions, chain=b"", **_flat(run, _RUN_TIMES))
    return encode(image)


def _flat_shard(shard: ShardState) -> bytes:
    cache = {key: msgspec.structs.replace(entry, stored_ns=0) for key, entry in shard.cache.items()}
    return encode(msgspec.structs.replace(shard, cache=cache, chain=b"", ts_ns=0))
