"""Records the golden log of a release: every type of event, written once and kept for good.

`python tests/golden/record.py NAME` writes `NAME.mslog` (and refuses to replace one) and
`NAME.json` with what it must replay to. `--rehash` renews the second file alone: for a release
that appends fields to the folded state, after a look at why the hash has changed.

A log is a sequence of records: four bytes of length, big-endian, then the MessagePack array
[sequence, key, frame].
"""

import json
import sys
from pathlib import Path

import msgspec

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "events"))

from log_builder import (  # noqa: E402 -- found by the line above only
    CACHED,
    CANCELLED,
    ERROR,
    OTHER,
    OUTPUT,
    RUN,
    TASK,
    LogBuilder,
    again,
    asked,
    began,
    child_name,
    created,
    ended,
    failed,
    gone_back,
    lost,
    over,
    retrying,
    sent,
    step,
    stop,
    stop_run,
    token,
    won,
)

from millstream_events import model as m  # noqa: E402
from millstream_events.artifacts import (  # noqa: E402
    ArtifactPattern,
    ArtifactSpec,
    ArtifactVersion,
    Card,
    ParentRef,
    PartitionKeys,
    TimeSlice,
)
from millstream_events.deployed import (  # noqa: E402
    CronSchedule,
    DeployedTask,
    DeployedTrigger,
    Firing,
    RateSchedule,
    trigger_key,
)
from millstream_events.fold import fold_entry  # noqa: E402
from millstream_events.ids import ROOT_ID  # noqa: E402
from millstream_events.plans import (  # noqa: E402
    Callee,
    Fields,
    Given,
    Node,
    Output,
    Plan,
    PlanCall,
    Raw,
    plan_value,
)
from millstream_events.ports import LogEntry  # noqa: E402
from millstream_events.state import ShardState, state_hash  # noqa: E402
from millstream_events.subjects import SHARD_KEY  # noqa: E402
from millstream_events.values import (  # noqa: E402
    Blob,
    DeployedAs,
    Inline,
    Items,
    Origin,
    TaskRef,
)

THIRD = "lo00-00000003-00000003"
ARCHIVED = "lo00-00000004-00000004"
FIRED = "lo00-00000005-00000005"
PRODUCING = "lo00-00000006-00000006"
STARTED = "lo00-00000007-00000007"
WALKED = "lo00-00000008-00000008"


def write_log() -> list[LogEntry]:
    """Return a log with every type of event, all of which a right leader could have written."""
    log = LogBuilder()
    _shard(log)
    _everything(log)
    _aborted(log)
    log.elect(2)
    _still_open(log)
    _archived(log)
    _deployed(log)
    _published(log)
    _walked(log)
    return log.entries


def _shard(log: LogBuilder) -> None:
    shape = {"pool": "default", "region": "lo", "cluster": "c", "labels": (("gpu", "no"),)}
    log.frame(
        SHARD_KEY,
        [
            m.ConfigApplied(0, version=3, settings=(("queue_max", 9),)),
            m.PoolSeen(0, agent="a", slots=4, incarnation="i1", **shape),
            m.PoolSeen(0, agent="b", slots=2, incarnation="i2", **shape),
            m.PoolLost(0, pool="default", agent="b", why="silent"),
            m.FeatureBarrier(0, feature="f"),
            m.InboxConsumed(0, seq=4),
            m.CommandRejected(0, command=b"c" * 16, code="invalid", by="me", reason="no run id"),
        ],
    )


def _everything(log: LogBuilder) -> None:
    log.runs(
        [
            created(
                name="golden",
                domain="d",
                policy=retrying(),
                inputs=OUTPUT,
                bundle=bytes(32),
                body=b"body",
                labels=(("team", "x"),),
                who="me",
                context=(("k", "v"),),
            ),
            m.ActionHeld(0, why="pool", reason="no pool is there"),
            m.RunPaused(0, who="me"),
            m.RunResumed(0, who="me"),
            sent(0),
        ],
        [began(0), m.GroupOpened(0, 1, name="g"), asked(1, group="g", **CACHED)],
        [m.CacheReserved(1, key=b"key", revision=1), sent(1)],
        [gone_back(1), sent(1, 1, 2)],
        [won(1, 1, 2), m.GroupClosed(0, 1, name="g"), asked(2, **CACHED)],
        [m.CacheHit(2, key=b"key", source_run=RUN, source_action=1, output=OUTPUT)],
        [step(3), m.TimerSet(4, id=child_name(4), due_ms=77)],
        [m.ConditionOpened(5, id=child_name(5), name="ok", prompt="go on?", due_ms=99)],
        [m.ConditionSignalled(5, value=OUTPUT, who="me"), m.TimerFired(4, due_ms=77)],
        [asked(6), m.ActionRecovered(6, source_run=OTHER, source_action=2, output=OUTPUT)],
        [asked(7, kind="childrun"), m.ChildRunLinked(7, run=OTHER)],
        [m.ChildRunFinished(7, phase="SUCCEEDED", output=Blob(bytes(32), 9000, "msgpack"))],
        [asked(8, policy=retrying()), sent(8)],
        [failed(8), again(8, 2, due_ms=50)],
        [m.TimerFired(8, 2, what="backoff", due_ms=50), sent(8, 2)],
        [lost(8, 2), again(8, 3, budget="system"), sent(8, 3)],
        [failed(8, 3), ended(8)],
        [asked(9, kind="map", items=3), asked(10, kind="map", items=2), sent(9)],
        [won(9, items=Items(3, 1, 1))],
        [m.ActionRecovered(10, source_run=OTHER, output=OUTPUT, items=Items(2, 2))],
        [m.AttemptParked(0, 1, token=token(0))],
        [m.AttemptEvicted(0, 1, token=token(0), rss_bytes=5), sent(0, 1, 2)],
        [m.StreamItem(0, 1, token=token(0, 1, 2), index=0, item=OUTPUT)],
        [m.DivergenceDetected(0, 1, expected=(child_name(1),), requested=child_name(19))],
        [m.RunAnnotated(0, 2, entries=(("checkpoint", ""),), value=OUTPUT)],
        [m.RunAnnotated(0, entries=(("note", "n"),), who="me"), won(0, 1, 2), over()],
    )


def _aborted(log: LogBuilder) -> None:
    log.runs(
        [created(run=OTHER, origin=Origin(RUN, "recover")), sent(0)],
        [asked(1), sent(1), asked(2)],
        [
            stop_run(why="enough"),
            stop(0, "run-aborted"),
            stop(1, "parent-aborted"),
            stop(2, "parent-aborted"),
            ended(2, "ABORTED"),
        ],
        [failed(1, error=CANCELLED), ended(1, "ABORTED")],
        [won(0), ended(0, "ABORTED"), over("ABORTED")],
        key=OTHER,
    )


def _still_open(log: LogBuilder) -> None:
    log.runs(
        [created(run=THIRD, policy=retrying(), deadline_ms=5000), sent(0)],
        [began(0), asked(1), asked(2, policy=retrying()), sent(1), sent(2)],
        [failed(2, error=ERROR), again(2, 2, due_ms=90)],
        [m.AttemptParked(0, 1, token=token(0))],
        key=THIRD,
    )


def _archived(log: LogBuilder) -> None:
    log.runs([created(run=ARCHIVED, name="gone"), sent(0)], [won(0), over()], key=ARCHIVED)
    shard = replayed(log.entries)
    snapshot = m.SnapshotTaken(0, seq=shard.seq, state_hash=state_hash(shard), uri="snap")
    log.frame(SHARD_KEY, [snapshot, m.RunArchived(0, run=ARCHIVED, uri="u", rev=4)])
    log.frame(SHARD_KEY, [m.PoolDrained(0, pool="default", agent="a")])


def _deployed(log: LogBuilder) -> None:
    ref = TaskRef("env.f", "app", "f", b"identity", deployed=DeployedAs("v1", bytes(32)))
    task = DeployedTask("p", "d", ref, retrying(), OUTPUT, b"body", "f", "env", "Does.")
    nightly = DeployedTrigger(
        "nightly", "p", "d", ref, retrying(), CronSchedule("0 0 * * *", "Europe/Berlin"),
        OUTPUT, "when", labels=(("team", "x"),),
    )  # fmt: skip
    often = DeployedTrigger("often", "p", "d", ref, retrying(), RateSchedule(60_000, 5))
    key = trigger_key("p", "d", "env.f", "nightly")
    log.frame(
        SHARD_KEY,
        [
            m.TaskDeployed(0, deployed=task, who="me", at_ms=5),
            m.TriggerDeployed(0, defined=nightly, at_ms=5),
            m.TriggerDeployed(0, defined=often, at_ms=6),
            m.TriggerSwitched(0, trigger=key, active=False, who="me", at_ms=7),
            m.TriggerSwitched(0, trigger=key, active=True, who="me", at_ms=8),
        ],
    )
    log.runs([created(run=FIRED, fired=Firing(key, 90))], key=FIRED)


def _published(log: LogBuilder) -> None:
    ref = TaskRef("env.f", "app", "f", b"identity", deployed=DeployedAs("v1", bytes(32)))
    pattern = ArtifactPattern("model", "", (("region", "eu"),), "m", (("day", "date", True),))
    arrived = DeployedTrigger("arrived", "p", "d", ref, retrying(), artifact=pattern)
    key = trigger_key("p", "d", "env.f", "arrived")
    spec = ArtifactSpec(
        "model", "1", OUTPUT, "File", "A model.", (("flyte.io/kind", "model"),),
        Card("s3://b/card.html", "html", "model"), (("region", "eu"),), TimeSlice("date", 5, "day"),
        (ParentRef("0"), ParentRef("7", "raw", "p", "d")), slot="o0",
    )  # fmt: skip
    produced = msgspec.structs.replace(spec, version="")
    version = ArtifactVersion(spec, "p", "d", 9, "me", PRODUCING, 0, 1, ROOT_ID)
    keys = PartitionKeys("date", "day", ("region",))
    declared = m.ArtifactDeclared(
        0, project="p", domain="d", name="model", keys=keys, who="me", at_ms=8
    )
    log.frame(SHARD_KEY, [m.TriggerDeployed(0, defined=arrived, at_ms=8), declared])
    log.runs(
        [created(run=PRODUCING, project="p", domain="d", who="me"), sent(0)],
        [won(0, produced=(produced,)), over()],
        key=PRODUCING,
    )
    settles = f"{PRODUCING}/0"
    event = m.ArtifactPublished(0, published=version, starts=(key,), settles=settles)
    log.frame(SHARD_KEY, [event])
    log.runs([created(run=STARTED, fired=Firing(key, 10, "model", "1"))], key=STARTED)


def _walked(log: LogBuilder) -> None:
    part = Fields(("n", "m"), (Given(("n",)), Output(0, (1,))))
    plan = Plan(
        1,
        (Callee(TASK, retrying(), (b"env.child", b"v1"), 0, ("m",)), Callee(TaskRef("result"))),
        (Node(0, Fields(("n",), (Raw(b"\x07"),)), "g"), Node(0, part, after=(0,))),
        Output(1),
        collector=1,
    )
    inputs = plan_value(PlanCall(plan, Inline("msgpack", b"\x81\xa1n\x07")))
    log.runs(
        [created(run=WALKED, kind="graph", inputs=inputs), m.GraphStarted(0), asked(1, node=1)],
        [sent(1), won(1, output=Inline("msgpack", b"\x92\x01\x02")), asked(2, node=2)],
        [sent(2), won(2), m.GraphSucceeded(0, output=OUTPUT), over()],
        key=WALKED,
    )


def replayed(entries: list[LogEntry]) -> ShardState:
    """Return the fold of a log."""
    shard = ShardState("lo00")
    for entry in entries:
        fold_entry(shard, entry)
    return shard


def save(path: Path, entries: list[LogEntry]) -> None:
    """Write a log."""
    with path.open("xb") as file:
        for entry in entries:
            record = msgspec.msgpack.encode((entry.seq, entry.key, entry.payload))
            file.write(len(record).to_bytes(4, "big") + record)


def load(path: Path) -> list[LogEntry]:
    """Read a log."""
    content = memoryview(path.read_bytes())
    entries = []
    while content:
        end = 4 + int.from_bytes(content[:4], "big")
        entries.append(LogEntry(*msgspec.msgpack.decode(content[4:end])))
        content = content[end:]
    return entries


def main() -> None:
    """Record, or rehash, the log that the first argument names."""
    path = HERE / f"{sys.argv[1]}.mslog"
    if sys.argv[2:] != ["--rehash"]:
        save(path, write_log())
    entries = load(path)
    shard = replayed(entries)
    expected = {"frames": len(entries), "state_hash": state_hash(shard).hex()}
    path.with_suffix(".json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main()
