"""Logs of every release replay alike for good, and no tag ever changes its meaning."""

import json
from pathlib import Path

import pytest
from record import THIRD, load, replayed, write_log

from millstream_events import model as m
from millstream_events.audit import audit
from millstream_events.check import check_state
from millstream_events.codec import decode_frame
from millstream_events.phases import State
from millstream_events.state import state_hash

HERE = Path(__file__).resolve().parent
LOGS = sorted(HERE.glob("*.mslog"))

#: Append only. A tag that has been written once keeps its class and the order of its fields.
TAGS = {
    1: (
        "RunCreated",
        "run",
        "project",
        "domain",
        "name",
        "task",
        "inputs",
        "policy",
        "bundle",
        "body",
        "labels",
        "who",
        "parent_run",
        "origin",
        "deadline_ms",
        "cache_mode",
        "cache_key",
        "context",
        "settings",
        "fired",
        "kind",
    ),
    2: ("RunPaused", "who", "why"),
    3: ("RunResumed", "who", "why"),
    4: ("RunAbortRequested", "who", "why", "timed_out"),
    5: ("RunFinished", "phase", "output", "error"),
    6: ("RunAnnotated", "entries", "who", "value"),
    10: (
        "ActionRequested",
        "id",
        "parent",
        "kind",
        "task",
        "inputs",
        "inputs_hash",
        "group",
        "k",
        "policy",
        "cache_key",
        "cache_mode",
        "items",
        "node",
    ),
    11: ("ActionHeld", "why", "reason"),
    12: ("CacheHit", "key", "source_run", "source_action", "output"),
    13: ("ActionRecovered", "source_run", "source_action", "output", "items"),
    14: ("AttemptDispatched", "pool", "agent", "token", "generation"),
    15: ("AttemptStarted", "token", "worker", "pid", "started_ns"),
    16: (
        "AttemptSucceeded",
        "token",
        "output",
        "worker",
        "started_ns",
        "ended_ns",
        "usage",
        "items",
        "produced",
    ),
    17: ("AttemptFailed", "token", "error", "worker", "started_ns", "ended_ns", "usage"),
    18: ("AttemptLost", "token", "why", "silence_ms", "limit_ms", "figures"),
    19: ("AttemptParked", "token"),
    20: ("AttemptEvicted", "token", "rss_bytes"),
    21: ("RetryScheduled", "due_ms", "budget"),
    22: ("ActionFinished", "phase", "error"),
    23: ("ActionAbortRequested", "who", "why", "reason", "timed_out"),
    24: (
        "TraceRecorded",
        "id",
        "parent",
        "token",
        "name",
        "inputs_hash",
        "output",
        "error",
        "started_ns",
        "ended_ns",
    ),
    25: (
        "ConditionOpened",
        "id",
        "parent",
        "name",
        "type",
        "prompt",
        "due_ms",
        "webhook",
        "extras",
    ),
    26: ("ConditionSignalled", "value", "who"),
    27: ("TimerSet", "id", "parent", "due_ms"),
    28: ("TimerFired", "what", "due_ms"),
    29: ("GroupOpened", "name", "outer"),
    30: ("GroupClosed", "name"),
    31: ("DivergenceDetected", "expected", "requested", "policy"),
    32: ("ChildRunLinked", "run"),
    33: ("ChildRunFinished", "phase", "output", "error"),
    34: ("StreamItem", "token", "index", "item"),
    35: ("AttemptReturned", "token", "why"),
    36: ("CacheReserved", "key", "revision"),
    40: ("GraphStarted",),
    41: ("GraphSucceeded", "output"),
    50: ("LeaderElected", "epoch", "node", "build", "features"),
    51: ("SnapshotTaken", "seq", "state_hash", "uri"),
    52: ("ConfigApplied", "version", "settings"),
    53: ("PoolSeen", "pool", "agent", "region", "cluster", "labels", "slots", "incarnation"),
    54: ("PoolLost", "pool", "agent", "why"),
    55: ("PoolDrained", "pool", "agent"),
    56: ("InboxConsumed", "seq"),
    60: ("FeatureBarrier", "feature", "on"),
    61: ("CommandRejected", "command", "code", "by", "reason"),
    62: ("RunArchived", "run", "uri", "digest", "rev"),
    70: ("TaskDeployed", "deployed", "who", "at_ms"),
    71: ("TriggerDeployed", "defined", "at_ms"),
    72: ("TriggerSwitched", "trigger", "active", "deleted", "who", "at_ms"),
    73: ("ArtifactPublished", "published", "starts", "settles", "refused"),
    74: ("ArtifactDeclared", "project", "domain", "name", "keys", "who", "at_ms"),
}


def fields_of(kind: type) -> tuple[str, ...]:
    return kind.__struct_fields__[4:]


def test_a_tag_never_changes_its_class_nor_the_order_of_its_fields() -> None:
    classes = {kind.__struct_config__.tag: kind for kind in m.Event.__args__}
    for tag, (name, *fields) in TAGS.items():
        kind = classes[tag]
        assert kind.__name__ == name
        assert kind.__struct_fields__[:4] == ("action", "attempt", "cause", "source")
        assert list(fields_of(kind)[: len(fields)]) == fields, "a field was moved or renamed"


def test_every_tag_is_in_the_table() -> None:
    written = {
        kind.__struct_config__.tag: (kind.__name__, *fields_of(kind)) for kind in m.Event.__args__
    }
    assert written == TAGS, "append what is new; change nothing else"


def test_every_field_after_the_first_has_a_default() -> None:
    for kind in m.Event.__args__:
        assert kind(0) == kind(action=0)


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_recorded_log_replays_to_its_recorded_state(path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_text())
    entries = load(path)
    shard = replayed(entries)
    assert len(entries) == expected["frames"]
    assert state_hash(shard).hex() == expected["state_hash"]
    assert check_state(shard) == []
    assert not any(run.quarantine for run in shard.runs.values())
    assert not shard.unknown


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_recorded_log_breaks_no_invariant(path: Path) -> None:
    assert audit(load(path), quiescent=True).violations == ()


def test_the_recorded_log_has_every_type_of_event() -> None:
    seen = set()
    for path in LOGS:
        for entry in load(path):
            frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
            seen |= {type(event) for event in frame.events}
    assert seen == set(m.Event.__args__)


def test_the_recorded_log_leaves_a_run_as_it_was_left() -> None:
    shard = replayed(load(HERE / "v0_1.mslog"))
    run = shard.runs[THIRD]
    assert [State(action.state) for action in run.actions] == [
        State.RUNNING,
        State.DISPATCHED,
        State.BACKOFF,
    ]
    assert (run.open_actions, run.live_actions, run.actions[0].parked) == (3, 2, True)


def test_the_script_writes_the_log_that_is_recorded() -> None:
    assert [entry.payload for entry in write_log()] == [
        entry.payload for entry in load(HERE / "v0_1.mslog")
    ]
