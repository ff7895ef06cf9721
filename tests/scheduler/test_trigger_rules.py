"""Deployed tasks and triggers, one rule each, on the leader's core with time as an argument."""

from datetime import UTC, datetime

import pytest
from sim_shard import Shard, works

from millstream._interface import Interface
from millstream_events.check import check_state
from millstream_events.codec import encode
from millstream_events.commands import Accepted, Command, DeployTask, Rejected, SwitchTrigger
from millstream_events.deployed import (
    CronSchedule,
    DeployedTask,
    DeployedTrigger,
    RateSchedule,
    Schedule,
    TaskQuery,
    key_of,
)
from millstream_events.model import RunCreated, TraceRecorded
from millstream_events.reports import Refuse, Release, StartAction
from millstream_events.values import DeployedAs, Inline, Policy, TaskRef

HOUR_MS = 3_600_000
MINUTE_MS = 60_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def deployed(version: str = "v1", body: bytes = b"1", name: str = "e.t") -> DeployedTask:
    ref = TaskRef(name, "m", "t", b"i", deployed=DeployedAs(version, version.encode() * 16))
    return DeployedTask("p", "d", ref, Policy(), body=body)


def trigger(
    schedule: Schedule | None, *, active: bool = True, name: str = "go", **fields: object
) -> DeployedTrigger:
    task = deployed()
    made = {"inputs": None, **fields}
    return DeployedTrigger(name, "p", "d", task.ref, Policy(), schedule, active=active, **made)


def say(shard: Shard, command: Command) -> Accepted | Rejected:
    effects = shard.tick(commands=[command])
    (reply,) = effects.clients_durable["me.1"] or effects.clients_now["me.1"]
    assert isinstance(reply, Accepted | Rejected)
    return reply


def deploy(shard: Shard, *triggers: DeployedTrigger, task: DeployedTask | None = None) -> None:
    command = DeployTask(b"d" * 16, task or deployed(), triggers)
    assert isinstance(say(shard, command), Accepted)


def fired(shard: Shard, until_ms: int, step_ms: int = MINUTE_MS) -> list[str]:
    """Let time pass and return when the trigger fired, in UTC."""
    times: list[str] = []
    while shard.now_ms < until_ms:
        shard.now_ms += step_ms
        shard.tick()
        times += _firings(shard)
    return times


def _firings(shard: Shard) -> list[str]:
    return [
        datetime.fromtimestamp(event.fired.at_ms / 1000, UTC).isoformat(timespec="minutes")[:16]
        for event in shard.events
        if isinstance(event, RunCreated) and event.fired is not None
    ]


def starting(when: str) -> Shard:
    shard = Shard()
    shard.now_ms = at(when)
    # A replay of everything after each of many ticks would take long; the tests end with one.
    shard.replays = False
    shard.tick()
    return shard


def test_nothing_fires_when_a_trigger_is_deployed() -> None:
    shard = starting("2026-05-01T10:00:00+00:00")
    deploy(
        shard,
        trigger(CronSchedule("0 * * * *")),
        trigger(RateSchedule(HOUR_MS), name="rate"),
        trigger(RateSchedule(HOUR_MS, at("2020-01-01T00:30:00+00:00")), name="begun"),
        trigger(None, name="by hand"),
    )
    assert _firings(shard) == []
    assert shard.book.state.runs == {}
    assert fired(shard, at("2026-05-01T11:00:00+00:00")) == [
        "2026-05-01T10:30",
        "2026-05-01T11:00",
        "2026-05-01T11:00",
    ]


def test_cron_follows_the_wall_clock_through_both_changes_of_it() -> None:
    shard = starting("2026-03-28T12:00:00+00:00")
    deploy(shard, trigger(CronSchedule("30 2 * * *", "Europe/Berlin")))
    # On the 29th there is no 02:30: it fires when the gap is over, 03:00 summer time.
    assert fired(shard, at("2026-03-30T12:00:00+00:00"), HOUR_MS) == [
        "2026-03-29T01:00",
        "2026-03-30T00:30",
    ]
    shard = starting("2026-10-24T12:00:00+00:00")
    deploy(shard, trigger(CronSchedule("30 2 * * *", "Europe/Berlin")))
    # On the 25th there are two: it fires at the first.
    assert fired(shard, at("2026-10-26T12:00:00+00:00"), HOUR_MS) == [
        "2026-10-25T00:30",
        "2026-10-26T01:30",
    ]


def test_a_new_leader_fires_what_is_due_and_nothing_twice() -> None:
    shard = Shard()
    shard.now_ms = at("2026-05-01T10:00:00+00:00")
    deploy(shard, trigger(RateSchedule(HOUR_MS)))
    assert fired(shard, at("2026-05-01T11:00:00+00:00"), 30 * MINUTE_MS) == ["2026-05-01T11:00"]
    shard.take_over()
    assert _firings(shard) == []
    assert fired(shard, at("2026-05-01T12:00:00+00:00"), 30 * MINUTE_MS) == ["2026-05-01T12:00"]
    shard.take_over()
    assert len(shard.book.state.runs) == 2
    assert check_state(shard.book.state) == []


def test_of_what_was_missed_while_nobody_led_the_latest_is_made_up_for() -> None:
    shard = Shard()
    shard.now_ms = at("2026-05-01T10:00:00+00:00")
    deploy(
        shard,
        trigger(CronSchedule("*/5 * * * *")),
        trigger(RateSchedule(7 * MINUTE_MS), name="rate"),
        trigger(CronSchedule("0 9 * * *"), name="not yet"),
    )
    shard.now_ms = at("2026-05-01T18:03:00+00:00")
    shard.take_over()
    assert sorted(_firings(shard)) == ["2026-05-01T18:00", "2026-05-01T18:03"]
    assert fired(shard, at("2026-05-01T18:05:00+00:00")) == ["2026-05-01T18:05"]


def test_an_inactive_trigger_does_not_fire_and_makes_up_for_nothing_when_activated() -> None:
    shard = starting("2026-05-01T10:00:00+00:00")
    made = trigger(CronSchedule("0 * * * *"), active=False)
    deploy(shard, made)
    assert fired(shard, at("2026-05-01T12:30:00+00:00")) == []
    key = key_of(made)
    assert isinstance(say(shard, SwitchTrigger(b"1" * 16, key, True)), Accepted)
    assert fired(shard, at("2026-05-01T13:00:00+00:00")) == ["2026-05-01T13:00"]
    assert isinstance(say(shard, SwitchTrigger(b"2" * 16, key, False)), Accepted)
    assert fired(shard, at("2026-05-01T15:00:00+00:00")) == []
    assert isinstance(say(shard, SwitchTrigger(b"3" * 16, key, False, deleted=True)), Accepted)
    assert isinstance(say(shard, SwitchTrigger(b"3" * 16, key, False, deleted=True)), Accepted)
    refusal = say(shard, SwitchTrigger(b"4" * 16, key, True))
    assert isinstance(refusal, Rejected)
    assert refusal.code == "no-such-trigger"


def test_deploying_new_code_neither_skips_a_firing_nor_shifts_an_interval() -> None:
    shard = starting("2026-05-01T10:00:00+00:00")
    deploy(shard, trigger(RateSchedule(HOUR_MS)))
    assert fired(shard, at("2026-05-01T10:40:00+00:00")) == []
    newer = deployed("v2", b"2")
    deploy(
        shard,
        DeployedTrigger("go", "p", "d", newer.ref, Policy(), RateSchedule(HOUR_MS)),
        task=newer,
    )
    assert fired(shard, at("2026-05-01T11:10:00+00:00")) == ["2026-05-01T11:00"]
    (run,) = shard.book.state.runs.values()
    assert run.actions[0].task == newer.ref
    assert run.bundle == b"v2" * 16


def test_a_run_of_a_trigger_has_the_time_of_the_firing_as_its_start_and_as_an_input() -> None:
    def job(x: int, when: datetime) -> None: ...

    shard = Shard()
    shard.now_ms = at("2026-05-01T10:00:00+00:00")
    inputs = Inline("msgpack", b"\x81\xa1x\x05")
    deploy(shard, trigger(CronSchedule("0 * * * *"), inputs=inputs, time_input="when"))
    shard.now_ms = at("2026-05-01T11:00:03+00:00")
    (work,) = works(shard.join().agents_now["a"])
    assert work.run_started_ms == at("2026-05-01T11:00:00+00:00")
    assert isinstance(work.inputs, Inline)
    values = Interface.of(job).decode_inputs(work.inputs.codec, work.inputs.content)
    assert values == {"x": 5, "when": datetime(2026, 5, 1, 11, tzinfo=UTC)}


def test_a_run_of_a_trigger_keeps_its_notes() -> None:
    shard = starting("2026-05-01T10:00:00+00:00")
    notes = (("annotation:team", "x"),)
    deploy(shard, trigger(CronSchedule("0 * * * *"), notes=notes))
    assert fired(shard, at("2026-05-01T11:00:00+00:00")) == ["2026-05-01T11:00"]
    (run,) = shard.book.state.runs.values()
    assert run.notes == notes


@pytest.mark.parametrize(
    "schedule",
    [
        CronSchedule("61 * * * *"),
        CronSchedule("* * * *"),
        CronSchedule("0 0 31 2 *"),
        CronSchedule("0 0 * * *", "Mars/Olympus"),
        RateSchedule(0),
    ],
)
def test_a_schedule_by_which_nothing_can_fire_is_refused(schedule: Schedule) -> None:
    refusal = say(Shard(), DeployTask(b"d" * 16, deployed(), (trigger(schedule),)))
    assert isinstance(refusal, Rejected)
    assert refusal.code == "invalid"


def test_a_version_never_means_two_things() -> None:
    shard = Shard()
    deploy(shard)
    deploy(shard)
    refusal = say(shard, DeployTask(b"e" * 16, deployed(body=b"other")))
    assert isinstance(refusal, Rejected)
    assert refusal.code == "version-taken"
    deploy(shard, task=deployed("v2", b"other"))
    (versions,) = shard.book.state.tasks.values()
    assert [known.task.version for known in versions] == ["v1", "v2"]


def test_a_running_task_is_told_of_a_deployed_one_and_the_answer_is_kept() -> None:
    shard = Shard()
    deploy(shard)
    shard.join()
    (work,) = works(shard.submit().agents_now["a"])

    def ask(number: int, query: TaskQuery) -> StartAction:
        content = Inline("msgpack", encode(query))
        name = b"lookup-%03d" % number
        ref = TaskRef(query.name)
        return StartAction(work.run, work.action, work.token, name, "lookup", ref, content, b"h")

    effects = shard.tick(ask(1, TaskQuery("p", "d", "e.t")))
    (release,) = [each for each in effects.agents_durable["a"] if isinstance(each, Release)]
    assert release.output == Inline("msgpack", encode(deployed()))
    assert any(isinstance(event, TraceRecorded) for event in shard.events)
    for number, query in enumerate(
        (TaskQuery("p", "d", "e.t", "v9"), TaskQuery("p", "d", "e.x"), TaskQuery("q", "d", "e.t"))
    ):
        effects = shard.tick(ask(10 + number, query))
        (refusal,) = [each for each in effects.agents_now["a"] if isinstance(each, Refuse)]
        assert refusal.code == "no-such-task"


def test_a_child_that_was_deployed_runs_with_its_own_code() -> None:
    shard = Shard()
    shard.join()
    (work,) = works(shard.submit().agents_now["a"])
    call = StartAction(
        work.run, work.action, work.token, b"child-0001", "task", deployed().ref, None, b"h"
    )
    (child,) = works(shard.tick(call).agents_now["a"])
    assert (work.bundle, child.bundle) == (b"", b"v1" * 16)
