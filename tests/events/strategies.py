"""Arbitrary events of every type, with values from pools so small that they meet."""

from collections.abc import Sequence

import msgspec
from hypothesis import strategies as st
from log_builder import OTHER, RUN

from millstream_events import model as m
from millstream_events.artifacts import (
    ArtifactPattern,
    ArtifactSpec,
    ArtifactVersion,
    PartitionKeys,
    TimeSlice,
)
from millstream_events.codec import encode_frame
from millstream_events.conditions import ConditionExtras
from millstream_events.deployed import (
    CronSchedule,
    DeployedTask,
    DeployedTrigger,
    Firing,
    trigger_key,
)
from millstream_events.fold import apply, apply_shard
from millstream_events.ids import ROOT_ID, chain_hash
from millstream_events.phases import ACCEPTS, Phase, State
from millstream_events.ports import LogEntry
from millstream_events.state import RunState, ShardState, flight_key
from millstream_events.subjects import SHARD_KEY
from millstream_events.values import (
    Blob,
    DeployedAs,
    ErrorRecord,
    Inline,
    Items,
    Origin,
    Policy,
    TaskRef,
    Usage,
)

EVENT_TYPES: tuple[type[m.Event], ...] = m.Event.__args__

_VALUES = st.sampled_from([None, Inline("msgpack", b"\x01"), Blob(bytes(32), 9000, "pickle")])
_ERRORS = st.sampled_from(
    [
        ErrorRecord("user", "ValueError", "no"),
        ErrorRecord("system", "WorkerLostError", "gone", retryable=False),
        ErrorRecord("dependency", "ImportError", "no such module"),
    ]
)
_IDS = st.sampled_from([ROOT_ID, b"id-1", b"id-2", b"id-3", b""])
_TOKENS = st.sampled_from([b"token-1", b"token-2", b"token-3", b""])
_KEYS = st.sampled_from([b"", b"key-1", b"key-2"])
_SMALL = st.integers(-1, 4)
_LARGE = st.sampled_from([0, 1, 1_700_000_000_000, 2**63 - 1, 2**64 - 1, -(2**63)])
_PAIRS = st.sampled_from([(), (("a", "b"),), (("b", ""), ("a", "c"))])
_PHASES = st.sampled_from(["", "LOST", *Phase])

#: By field name; `phase` and the like are plain strings to msgspec.
_DEPLOYED = DeployedTask("", "", TaskRef("env.f", deployed=DeployedAs("1", b"b")), Policy())
_TRIGGER = DeployedTrigger(
    "nightly", "", "", _DEPLOYED.ref, Policy(), CronSchedule("0 0 * * *"), active=True
)
_ARTIFACT = ArtifactVersion(
    ArtifactSpec("model", "1", partitions=(("region", "eu"),), time=TimeSlice("date", 5)), "", ""
)
_ON_ARTIFACT = msgspec.structs.replace(
    _TRIGGER, name="arrived", schedule=None, artifact=ArtifactPattern("model")
)
_ARRIVED = trigger_key("", "", "env.f", "arrived")
_POOLS: dict[str, st.SearchStrategy[object]] = {
    "cause": st.just(0),
    "source": st.just(b"source"),
    "action": _SMALL,
    "parent": _SMALL,
    "attempt": _SMALL,
    "index": _SMALL,
    "id": _IDS,
    "token": _TOKENS,
    "cache_key": _KEYS,
    "key": _KEYS,
    "phase": _PHASES,
    "kind": st.sampled_from([*m.ACTION_KINDS, "graph", "graph", ""]),
    "node": st.sampled_from([0, 0, 0, 1, 2, -1]),
    "budget": st.sampled_from(["user", "system", "else"]),
    "what": st.sampled_from(
        ["timer", "backoff", "queued", "runtime", "deadline", "grace", "condition", "else"]
    ),
    "task": st.sampled_from([TaskRef(""), TaskRef("env.f", "app", "f", b"identity")]),
    "policy": st.sampled_from([None, Policy(), Policy(retries=1, detached=True)]),
    "origin": st.sampled_from([None, Origin("run", "recover")]),
    "usage": st.sampled_from([None, Usage(1, 2)]),
    "run": st.sampled_from([RUN, OTHER, ""]),
    "agent": st.sampled_from(["", "agent-1"]),
    "name": st.sampled_from(["", "alias"]),
    "settings": st.sampled_from([(), (("cache_scope", "project-domain"),)]),
    "features": st.sampled_from([(), ("x", "a")]),
    "expected": st.sampled_from([(), (b"id-1",)]),
    "extras": st.sampled_from([None, ConditionExtras("markdown", "more", 5, "g", "{}")]),
    "fired": st.sampled_from(
        [
            None,
            Firing(trigger_key("", "", "env.f", "nightly"), 9),
            Firing(_ARRIVED, 9, "model", "1"),
        ]
    ),
    "published": st.sampled_from(
        [None, _ARTIFACT, msgspec.structs.replace(_ARTIFACT, spec=ArtifactSpec("model", "2"))]
    ),
    "produced": st.sampled_from([(), (), (_ARTIFACT.spec,)]),
    "starts": st.sampled_from([(), (_ARRIVED,)]),
    "settles": st.sampled_from(["", f"{RUN}/0", f"{RUN}/1"]),
    "refused": st.sampled_from(["", "", "taken"]),
    "keys": st.sampled_from([None, PartitionKeys("date", "day", ("region",))]),
    "deployed": st.sampled_from([None, _DEPLOYED]),
    "items": st.sampled_from([None, Items(2, 1, 1), Items(2, 2, 1), Items(2, -1), Items(3, 1)]),
    "defined": st.sampled_from([None, _TRIGGER, _ON_ARTIFACT]),
    "figures": st.sampled_from([(), (("limit_bytes", 5),)]),
}


def _pool(field: msgspec.inspect.Field) -> st.SearchStrategy[object]:
    if field.name == "items" and isinstance(field.type, msgspec.inspect.IntType):
        return st.sampled_from([0, 2, -1])
    if field.name in _POOLS and not (field.name in ("policy", "node") and _is_text(field)):
        return _POOLS[field.name]
    return _pool_of(field.type)


def _is_text(field: msgspec.inspect.Field) -> bool:
    return isinstance(field.type, msgspec.inspect.StrType)


def _pool_of(kind: msgspec.inspect.Type) -> st.SearchStrategy[object]:
    match kind:
        case msgspec.inspect.IntType():
            return _LARGE
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.StrType():
            return st.sampled_from(["", "x", "ü\x00"])
        case msgspec.inspect.BytesType():
            return st.sampled_from([b"", b"bytes"])
        case msgspec.inspect.VarTupleType():
            return _PAIRS
        case msgspec.inspect.StructType(cls=cls) if cls is ErrorRecord:
            return _ERRORS
        case msgspec.inspect.UnionType(types=types):
            names = {each.cls for each in types if hasattr(each, "cls")}
            return _VALUES if Inline in names else st.one_of(st.none(), _ERRORS)
        case _:
            raise AssertionError(kind)


def events_of(kind: type[m.Event]) -> st.SearchStrategy[m.Event]:
    """Return a strategy of events of one type."""
    fields = msgspec.inspect.type_info(kind).fields
    if kind is m.ConfigApplied:
        settings = st.sampled_from([(), (("queue", 3),)])
        return st.builds(kind, action=_SMALL, version=_LARGE, settings=settings)
    return st.builds(kind, **{field.name: _pool(field) for field in fields})


_OF_TYPE = {kind: events_of(kind) for kind in EVENT_TYPES}
_ANY = st.one_of(list(_OF_TYPE.values()))
_ANY_SHARD = st.one_of([_OF_TYPE[kind] for kind in m.ShardEvent.__args__])
_RUN_TYPES = tuple(kind for kind in m.RunEvent.__args__ if kind is not m.RunFinished)
_BIRTHS = (m.ActionRequested, m.TraceRecorded, m.TimerSet, m.ConditionOpened)

#: (key, event, whether its frame ends here)
Steps = Sequence[tuple[str, m.Event, bool]]


@st.composite
def steps(draw: st.DrawFn, steps_max: int = 30) -> Steps:
    """Return what a mad leader does: mostly what may come next, else anything at all."""
    leader = MadLeader()
    chosen: list[tuple[str, m.Event, bool]] = []
    for _ in range(draw(st.integers(steps_max // 2, steps_max))):
        key = draw(st.sampled_from([RUN, RUN, RUN, RUN, RUN, OTHER, OTHER, SHARD_KEY]))
        run = leader.shard.runs.get(key) or RunState(key)
        if key == SHARD_KEY:
            event = draw(_ANY_SHARD)
        elif draw(st.integers(0, 7)) == 7:
            event = draw(_ANY)
        else:
            event = _apt(draw, run)
        ends = draw(st.booleans())
        leader.take(key, event, ends=ends)
        chosen.append((key, event, ends))
    return chosen


def _apt(draw: st.DrawFn, run: RunState) -> m.Event:
    """Draw an event that would count, or almost."""
    if not run.actions:
        return draw(_OF_TYPE[m.RunCreated])
    if run.finished:
        return draw(_ANY)
    if not run.open_actions:
        return draw(_OF_TYPE[m.RunFinished])
    if draw(st.integers(0, 15)) == 15:
        return draw(_OF_TYPE[draw(st.sampled_from(_RUN_TYPES))])
    still_open = [n for n, action in enumerate(run.actions) if not action.terminal]
    ordinal = draw(st.sampled_from(still_open))
    action = run.actions[ordinal]
    kinds = [kind for kind, states in ACCEPTS.items() if action.state in states]
    likely = draw(st.booleans())
    if likely and action.token and len(run.actions) < 5:
        kinds = _BIRTHS
    elif likely and action.state == State.WALKING and len(run.actions) < 5:
        kinds = [m.ActionRequested]
    elif likely and action.kind == "graph" and m.GraphStarted in kinds and not run.aborting:
        kinds = [m.GraphStarted]
    elif likely and action.kind == "childrun":
        kinds = [m.ChildRunFinished if action.child_run else m.ChildRunLinked]
    elif likely and m.AttemptDispatched in kinds and not run.aborting:
        kinds = [m.AttemptDispatched]
    elif likely and action.state == State.FAILING:
        kinds = [m.RetryScheduled]
    event = draw(_OF_TYPE[draw(st.sampled_from(kinds))])
    return at_target(run, ordinal, event)


class MadLeader:
    """Applies events live, as a leader does, and writes them into frames."""

    def __init__(self) -> None:
        self.shard = ShardState("lo00")
        self.entries: list[LogEntry] = []
        self._open: dict[str, list[m.Event]] = {}
        self._frame_ts: dict[str, int] = {}
        self._archived: set[str] = set()
        self._number = 0
        self._ts_ns = 1

    def take(self, key: str, event: m.Event, *, ends: bool) -> None:
        """Apply one event live."""
        if key in self._archived:
            return  # A run's id is never used again.
        computes = any(flight.run == key for flight in self.shard.flights.values())
        shared = m.RunCreated | m.AttemptSucceeded | m.CacheReserved | m.ArtifactPublished
        if isinstance(event, shared) or computes:
            # Names, artifacts and cached values are shared by runs, and frames replay in the
            # order in which they are written: what two runs write there must be in that order.
            self.flush()
        if isinstance(event, m.RunArchived):
            self.flush()
            finished = event.run in self.shard.runs and self.shard.runs[event.run].finished
            self._archived |= {event.run} if finished and key == SHARD_KEY else set()
        self._ts_ns += 1
        # One tick has one time: whatever is open belongs to the frame that ends it.
        ts_ns = self._ts_ns if not self._open.get(key) else self._frame_ts[key]
        self._frame_ts[key] = ts_ns
        if key == SHARD_KEY:
            apply_shard(self.shard, event)
        else:
            run = self.shard.runs.setdefault(key, RunState(key))
            apply(self.shard, run, event, ts_ns)
        self._open.setdefault(key, []).append(event)
        if ends:
            self.flush()

    def flush(self) -> None:
        """Write what is open, one frame for each run."""
        for key, events in self._open.items():
            self._write(key, events)
        self._open = {}

    def _write(self, key: str, events: list[m.Event]) -> None:
        shard = self.shard
        holder = shard if key == SHARD_KEY else shard.runs.get(key) or RunState(key)
        self._number += 1
        payload = encode_frame(
            epoch=1,
            number=self._number,
            ts_ns=self._frame_ts[key],
            rev=holder.rev - len(events) + 1,
            prev=holder.chain,
            events=events,
        )
        holder.chain = chain_hash(payload)
        shard.epoch, shard.number = 1, self._number
        shard.ts_ns = max(shard.ts_ns, self._frame_ts[key])
        shard.seq += 1
        self.entries.append(LogEntry(shard.seq, key, payload))


def at_target(run: RunState, ordinal: int, event: m.Event) -> m.Event:
    """Return the event with the ordinal, the attempt and the token that would make it count."""
    action = run.actions[ordinal]
    fields: dict[str, object] = {"action": ordinal, "attempt": action.attempt}
    if hasattr(event, "token"):
        fields["token"] = action.token
    if isinstance(event, _BIRTHS):
        fields["action"] = len(run.actions)
        fields["id"] = b"id-%d" % len(run.actions)
        fields["parent"] = ordinal
    elif isinstance(event, m.RetryScheduled):
        fields["attempt"] = action.attempt + 1
    elif isinstance(event, m.AttemptDispatched):
        fields["token"] = b"new-%d" % run.rev
    elif isinstance(event, m.CacheReserved):
        fields["key"] = flight_key(run, action.cache_key)
    elif isinstance(event, m.StreamItem):
        fields["index"] = action.streamed
    elif isinstance(event, m.TimerFired) and action.kind in ("timer", "condition"):
        fields["what"] = action.kind
    return msgspec.structs.replace(event, **fields)
