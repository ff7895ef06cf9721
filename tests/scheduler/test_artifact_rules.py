"""Artifacts and the triggers that wait for them, one rule each, on the leader's core."""

import msgspec
import pytest
from sim_shard import RUN, Shard, works

from millstream_events.artifact_reads import find_artifacts, find_names
from millstream_events.artifacts import (
    REFUSED_NOTE,
    USED_NOTE,
    ArtifactAnswer,
    ArtifactPattern,
    ArtifactSpec,
    ArtifactVersion,
    FindArtifacts,
    FindNames,
    ParentRef,
    PartitionKeys,
    PartitionTest,
    PublishSpec,
    TimeSlice,
)
from millstream_events.check import check_state
from millstream_events.codec import decode_frame, encode
from millstream_events.commands import (
    Accepted,
    Command,
    DeclareArtifact,
    DeployTask,
    PublishArtifact,
    Rejected,
    SubmitRun,
    SwitchTrigger,
)
from millstream_events.deployed import DeployedTask, DeployedTrigger, key_of
from millstream_events.model import ArtifactPublished, RunCreated
from millstream_events.reports import Refuse, Release, StartAction, Succeeded, Work
from millstream_events.values import DeployedAs, Inline, Policy, TaskRef

DAY_MS = 86_400_000
VALUE = Inline("msgpack", b"\xa4here")


def spec(name: str = "model", version: str = "1", **fields: object) -> ArtifactSpec:
    return ArtifactSpec(name, version, VALUE, **fields)


def say(shard: Shard, command: Command) -> Accepted | Rejected:
    effects = shard.tick(commands=[command])
    (reply,) = effects.clients_durable["me.1"] or effects.clients_now["me.1"]
    assert isinstance(reply, Accepted | Rejected)
    return reply


def publish(shard: Shard, made: ArtifactSpec, number: int = 1) -> str:
    """Publish from outside; return the code of the refusal, or nothing."""
    reply = say(shard, PublishArtifact(b"%016d" % number, "p", "d", made, "me"))
    return reply.code if isinstance(reply, Rejected) else ""


def versions(shard: Shard, **query: object) -> list[str]:
    answer = find_artifacts(shard.book.state, FindArtifacts("p", "d", **query))
    return [f"{each.name}@{each.version}" for each in answer.versions]


def on_artifact(pattern: ArtifactPattern, *, active: bool = True) -> DeployedTrigger:
    ref = TaskRef("e.t", "m", "t", b"i", deployed=DeployedAs("v1", b"v" * 32))
    inputs = Inline("msgpack", msgspec.msgpack.encode({"x": 5}))
    return DeployedTrigger(
        "arrived", "p", "d", ref, Policy(), inputs=inputs, active=active, artifact=pattern
    )


def deploy(shard: Shard, trigger: DeployedTrigger) -> None:
    task = DeployedTask("p", "d", trigger.task, Policy(), body=b"1")
    assert isinstance(say(shard, DeployTask(b"d" * 16, task, (trigger,))), Accepted)


def started(shard: Shard) -> list[tuple[str, str]]:
    """Return the versions that runs were started for, in all of the log."""
    return [
        (run.fired.artifact, run.fired.version)
        for run in shard.replayed().runs.values()
        if run.fired is not None
    ]


def running(shard: Shard) -> Work:
    """Start a run whose root is at work, and return the dispatch."""
    shard.join()
    command = SubmitRun(b"r" * 16, RUN, TaskRef("env.main"), project="p", domain="d")
    (work,) = works(shard.tick(commands=[command]).agents_now["a"])
    return work


def win(work: Work, *produced: ArtifactSpec) -> Succeeded:
    return Succeeded(work.run, work.action, work.token, VALUE, "w", 1, 2, None, produced=produced)


# ------------------------------------------------------------------ what is published


def test_a_version_is_found_by_its_name_its_version_and_as_the_latest() -> None:
    shard = Shard()
    for number, version in enumerate(("1", "2")):
        shard.now_ms += 1000
        assert publish(shard, spec(version=version), number) == ""
    assert publish(shard, spec("raw", "1"), 9) == ""
    assert versions(shard, name="model") == ["model@2", "model@1"]
    assert versions(shard, name="model", version="1") == ["model@1"]
    assert versions(shard, name="gone") == []
    groups = find_names(shard.book.state, FindNames("p", "d")).groups
    assert [(group.name, group.versions) for group in groups] == [("raw", 1), ("model", 2)]
    assert find_artifacts(shard.book.state, FindArtifacts("q", "d", "model")).versions == ()


def test_a_version_never_means_two_things_and_the_same_again_is_no_event() -> None:
    shard = Shard()
    assert publish(shard, spec()) == ""
    records = len(shard.log)
    assert publish(shard, spec(), 2) == ""
    assert len(shard.log) == records
    assert publish(shard, spec(description="other"), 3) == "artifact-taken"


def test_the_first_version_fixes_the_partitions_and_a_declaration_does_so_ahead() -> None:
    shard = Shard()
    day = TimeSlice("date", 0, "day")
    assert publish(shard, spec(time=day, partitions=(("region", "eu"),))) == ""
    assert publish(shard, spec(version="2", partitions=(("region", "eu"),))) == "partition-mismatch"
    keys = PartitionKeys("date", "hour", ("region",))
    refused = say(shard, DeclareArtifact(b"1" * 16, "p", "d", "model", keys))
    assert isinstance(refused, Rejected)
    assert refused.code == "partition-mismatch"
    keys = PartitionKeys("date", "day", ("region",))
    assert isinstance(say(shard, DeclareArtifact(b"2" * 16, "p", "d", "model", keys)), Accepted)
    assert isinstance(say(shard, DeclareArtifact(b"3" * 16, "p", "d", "next", keys)), Accepted)
    assert publish(shard, spec("next", "1")) == "partition-mismatch"
    (_, declared) = find_names(shard.book.state, FindNames("p", "d")).groups
    assert (declared.name, declared.declared, declared.versions) == ("next", True, 0)


@pytest.mark.parametrize(
    "made",
    [
        spec(name=""),
        spec(version=""),
        spec(name="x" * 257),
        spec(parents=(ParentRef("1"),)),
        spec(parents=(ParentRef("0"),) * 33),
        spec(description="x" * 20_000),
    ],
)
def test_what_no_version_can_be_is_refused(made: ArtifactSpec) -> None:
    shard = Shard()
    assert publish(shard, made) == "invalid"
    assert shard.book.state.artifacts == {}


def test_partitions_select_versions_by_value_by_range_and_the_latest_of_each() -> None:
    shard = Shard()
    for number in range(6):
        shard.now_ms += 1000
        made = spec(
            version=str(number),
            time=TimeSlice("date", number // 2 * DAY_MS),
            partitions=(("region", "eu" if number % 4 < 3 else "us"),),
        )
        assert publish(shard, made, number) == ""
    eu = PartitionTest("region", ("eu",), 1, 0)
    first_day = PartitionTest("date", (), 0, 0)
    two_days = PartitionTest("date", (), 0, DAY_MS)
    assert versions(shard, name="model", partitions=(eu,)) == [
        "model@5", "model@4", "model@2", "model@1", "model@0",
    ]  # fmt: skip
    assert versions(shard, name="model", partitions=(first_day,)) == ["model@1", "model@0"]
    latest = versions(shard, name="model", partitions=(eu, two_days), latest_per_partition=True)
    assert latest == ["model@2", "model@1"]


def test_pages_of_an_answer_have_a_bound_and_together_hold_everything() -> None:
    shard = Shard()
    shard.replays = False
    for number in range(25):
        shard.now_ms += 1
        assert publish(shard, spec(version=str(number), description="x" * 5000), number) == ""
    seen: list[str] = []
    skip = 0
    while True:
        answer = find_artifacts(shard.book.state, FindArtifacts("p", "d", "model", skip=skip))
        assert len(encode(answer)) < 40_000
        seen += [each.version for each in answer.versions]
        skip = answer.next
        if not skip:
            break
    assert seen == [str(number) for number in reversed(range(25))]


# ------------------------------------------------------------------ what attempts produce


def test_what_an_attempt_produces_is_published_with_its_success_and_says_who_made_it() -> None:
    shard = Shard()
    work = running(shard)
    produced = (spec(version="", slot="o0"), spec("raw", "", slot="o1"), spec("tagged", "7"))
    shard.tick(win(work, *produced))
    lines = shard.book.state.artifacts
    made = [version for line in lines.values() for version in line.versions.values()]
    assert [(each.name, each.version) for each in made] == [
        ("model", f"{RUN}-a0-1"),
        ("raw", f"{RUN}-a0-1-o1"),
        ("tagged", "7"),
    ]
    assert {(each.run, each.action, each.attempt) for each in made} == {(RUN, 0, 1)}
    assert shard.book.state.unpublished == {}
    assert check_state(shard.book.state) == []


def test_a_success_that_comes_too_late_publishes_nothing() -> None:
    shard = Shard()
    work = running(shard)
    shard.tick(win(work))
    shard.tick(win(work, spec()))
    assert shard.book.state.artifacts == {}


def test_what_cannot_be_published_leaves_the_success_and_a_note_with_the_reason() -> None:
    shard = Shard()
    assert publish(shard, spec(description="first")) == ""
    work = running(shard)
    shard.tick(win(work, spec(slot="o0"), spec("raw", "1", slot="o1")))
    assert shard.run.phase == "SUCCEEDED"
    ((key, text),) = shard.run.notes
    assert key == REFUSED_NOTE
    assert text == "o0 as model@1: artifact model has a version '1' with other content"
    assert versions(shard, name="raw") == ["raw@1"]


@pytest.mark.parametrize("lost", range(3))
def test_a_leader_that_dies_after_the_success_leaves_the_rest_to_the_next_one(lost: int) -> None:
    shard = Shard()
    deploy(shard, on_artifact(ArtifactPattern("model")))
    work = running(shard)
    records = len(shard.log)
    shard.tick(win(work, spec(), spec("raw", "1")))
    # Behind the run's frame come the shard's, and the one of the run that the trigger starts.
    assert len(shard.log) == records + 3
    del shard.log[records + 1 + lost :]
    shard.take_over()
    shard.take_over()
    assert versions(shard) == ["raw@1", "model@1"]
    assert started(shard) == [("model", "1")]
    assert shard.book.state.unpublished == {}
    assert shard.book.state.firings == {}


def test_without_the_success_nothing_is_published() -> None:
    shard = Shard()
    work = running(shard)
    records = len(shard.log)
    shard.tick(win(work, spec()))
    del shard.log[records:]
    shard.take_over()
    assert shard.book.state.artifacts == {}


# ------------------------------------------------------------------ what attempts ask


def asking(work: Work, number: int, question: msgspec.Struct) -> StartAction:
    content = Inline("msgpack", encode(question))
    ref = TaskRef("model")
    id_ = b"artifact-%03d" % number
    return StartAction(work.run, work.action, work.token, id_, "artifact", ref, content, b"h")


def answered(shard: Shard, report: StartAction) -> ArtifactAnswer:
    effects = shard.tick(report)
    (release,) = [each for each in effects.agents_durable["a"] if isinstance(each, Release)]
    assert isinstance(release.output, Inline)
    return msgspec.msgpack.decode(release.output.content, type=ArtifactAnswer)


def test_a_running_task_publishes_a_version_once_however_often_it_asks() -> None:
    shard = Shard()
    work = running(shard)
    question = PublishSpec("p", "d", spec())
    (made,) = answered(shard, asking(work, 1, question)).versions
    assert (made.run, made.action, made.attempt) == (RUN, 0, 1)
    # The agent asks again, and so does an attempt whose step was lost.
    assert answered(shard, asking(work, 1, question)).versions == (made,)
    assert answered(shard, asking(work, 2, question)).versions == (made,)
    assert versions(shard) == ["model@1"]
    effects = shard.tick(asking(work, 3, PublishSpec("p", "d", spec(description="other"))))
    (refusal,) = [each for each in effects.agents_now["a"] if isinstance(each, Refuse)]
    assert refusal.code == "artifact-taken"


def test_a_running_task_gets_the_recorded_answer_and_its_run_notes_what_it_used() -> None:
    shard = Shard()
    publish(shard, spec())
    work = running(shard)
    question = FindArtifacts("p", "d", "model", limit=1, uses=True)
    (found,) = answered(shard, asking(work, 1, question)).versions
    publish(shard, spec(version="2"), 2)
    assert answered(shard, asking(work, 1, question)).versions == (found,)
    assert shard.run.notes == ((USED_NOTE, "p/d/model@1"),)


def test_a_question_that_cannot_be_read_is_refused() -> None:
    shard = Shard()
    work = running(shard)
    bad = msgspec.structs.replace(
        asking(work, 1, FindNames("p", "d")), inputs=Inline("msgpack", b"\x01")
    )
    (refusal,) = [each for each in shard.tick(bad).agents_now["a"] if isinstance(each, Refuse)]
    assert refusal.code == "invalid"


# ------------------------------------------------------------------ what versions start


def test_a_trigger_fires_once_for_each_new_version_and_never_for_an_old_one() -> None:
    shard = Shard()
    publish(shard, spec(version="0"))
    deploy(shard, on_artifact(ArtifactPattern("model", value_input="m")))
    assert started(shard) == []
    publish(shard, spec(version="1"), 2)
    publish(shard, spec("raw", "1"), 3)
    publish(shard, spec(version="1"), 4)
    shard.take_over()
    publish(shard, spec(version="2"), 5)
    assert started(shard) == [("model", "1"), ("model", "2")]
    (work, _) = works(shard.join().agents_now["a"])
    assert isinstance(work.inputs, Inline)
    assert msgspec.msgpack.decode(work.inputs.content) == {"x": 5, "m": "here"}
    run = shard.book.state.runs[work.run]
    assert run.notes == ((f"{USED_NOTE}m", "p/d/model@1"),)
    assert check_state(shard.book.state) == []


def test_a_trigger_fires_for_the_version_and_the_partitions_that_it_names() -> None:
    shard = Shard()
    pattern = ArtifactPattern(
        "model",
        "",
        (("region", "eu"), ("date", "1970-01-02")),
        partition_inputs=(("day", "date", True), ("place", "region", False), ("n", "none", False)),
    )
    deploy(shard, on_artifact(pattern))
    for number, (region, at_ms) in enumerate((("us", DAY_MS), ("eu", 0), ("eu", DAY_MS))):
        made = spec(
            version=str(number), partitions=(("region", region),), time=TimeSlice("date", at_ms)
        )
        publish(shard, made, number)
    assert started(shard) == [("model", "2")]
    (work,) = works(shard.join().agents_now["a"])
    assert isinstance(work.inputs, Inline)
    inputs = msgspec.msgpack.decode(work.inputs.content)
    assert (inputs["x"], inputs["place"]) == (5, "eu")
    assert inputs["day"] == msgspec.msgpack.Ext(3, b"1970-01-02T00:00:00+00:00")
    assert "n" not in inputs


def test_an_inactive_or_deleted_trigger_does_not_fire() -> None:
    shard = Shard()
    made = on_artifact(ArtifactPattern("model"), active=False)
    deploy(shard, made)
    publish(shard, spec(version="1"), 1)
    say(shard, SwitchTrigger(b"1" * 16, key_of(made), True))
    publish(shard, spec(version="2"), 2)
    say(shard, SwitchTrigger(b"2" * 16, key_of(made), False, deleted=True))
    publish(shard, spec(version="3"), 3)
    assert started(shard) == [("model", "2")]


def test_a_run_that_was_to_start_is_started_by_the_next_leader_unless_its_trigger_is_gone() -> None:
    shard = Shard()
    made = on_artifact(ArtifactPattern("model"))
    deploy(shard, made)
    publish(shard, spec(version="1"), 1)
    assert any(isinstance(event, RunCreated) for event in shard.events)
    del shard.log[-1]
    lost = shard.replayed()
    (awaited,) = lost.firings.values()
    assert awaited.version.version == "1"
    assert started(shard) == []
    shard.take_over()
    assert started(shard) == [("model", "1")]
    state = shard.book.state.triggers[key_of(made)]
    assert state.fired_run in shard.book.state.runs


def test_several_triggers_of_one_version_each_start_their_run() -> None:
    shard = Shard()
    first = on_artifact(ArtifactPattern("model"))
    task = DeployedTask("p", "d", first.task, Policy(), body=b"1")
    second = msgspec.structs.replace(first, name="other")
    say(shard, DeployTask(b"d" * 16, task, (first, second)))
    publish(shard, spec())
    (event,) = [each for each in _shard_events(shard) if isinstance(each, ArtifactPublished)]
    assert event.starts == (key_of(first), key_of(second))
    assert len(shard.book.state.runs) == 2


def _shard_events(shard: Shard) -> list[object]:
    events: list[object] = []
    for entry in shard.log:
        events += decode_frame(entry.payload, key=entry.key, seq=entry.seq).events
    return events


def test_the_description_of_a_version_outlives_its_run() -> None:
    shard = Shard()
    work = running(shard)
    shard.tick(win(work, spec()))
    state = shard.replayed()
    del state.runs[RUN]
    (found,) = find_artifacts(state, FindArtifacts("p", "d")).versions
    assert isinstance(found, ArtifactVersion)
    assert found.run == RUN
