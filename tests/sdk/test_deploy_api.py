"""What `deploy`, deployed tasks and triggers are to a program, without a cluster."""

from datetime import datetime
from typing import Any, cast

import msgspec
import pytest

import millstream
from millstream._deploy import plan_deploy
from millstream._deployed import pack_interface, record_of, unpack_interface
from millstream._handing_on import spread
from millstream._init import installation
from millstream._remote_task import LazyEntity, TaskDetails
from millstream._run_options import RunOptions
from millstream._submit import code_of
from millstream._trigger_record import trigger_record
from millstream._values_sink import Sink
from millstream.errors import DeploymentError, RemoteTaskUsageError, RuntimeDataValidationError
from millstream.io import File
from millstream_events.artifacts import ArtifactPattern
from millstream_events.values import Inline, Needs, Policy, RunWide

base = millstream.TaskEnvironment("base")
env = millstream.TaskEnvironment("shown", depends_on=[base])
on_artifact_env = millstream.TaskEnvironment("on_artifact")


@base.task
async def below(n: int) -> int:
    return n


@env.task(
    retries=2,
    cache=millstream.Cache("auto", version_override="7"),
    triggers=(millstream.Trigger.daily("when", inputs={"n": 3}),),
)
async def job(when: datetime, n: int = 1, *, tag: str = "x") -> list[int]:
    """Do the job."""
    return [n]


def details() -> TaskDetails:
    packed = pack_interface(job)
    record = record_of(
        job,
        job.ref(),
        Inline("msgpack", packed),
        version="v1",
        bundle=b"",
        project="p",
        domain="d",
    )
    return TaskDetails(record, unpack_interface(packed))


def test_a_dry_run_shows_what_would_be_registered_of_all_that_it_depends_on() -> None:
    (made,) = millstream.deploy(env, base, dry_run=True, version="v1")
    assert list(made.envs) == ["shown", "base"]
    assert made.table_repr() == [
        [("type", "task"), ("name", "shown.job"), ("version", "v1"), ("triggers", "daily")],
        [("type", "task"), ("name", "base.below"), ("version", "v1"), ("triggers", "")],
    ]
    assert made.summary_repr() == (
        "Deployment(envs=[Deployment(env=[shown], entities=[DeployedTask(name=shown.job, "
        "version=v1)]), Deployment(env=[base], entities=[DeployedTask(name=base.below, "
        "version=v1)])])"
    )
    assert made.env_repr()[0][0] == ("environment", "shown")


async def test_deploy_can_be_awaited_and_knows_its_former_parameter() -> None:
    with pytest.warns(FutureWarning, match="dry_run"):
        (made,) = await millstream.deploy.aio(base, dryrun=True, version="v")
    assert made.envs["base"].deployed_entities[0].get_name() == "base.below"


def test_a_version_follows_from_the_code_and_needs_some() -> None:
    (made,) = millstream.deploy(base, dry_run=True)
    assert len(made.envs["base"].deployed_entities[0].version) == 16
    with pytest.raises(DeploymentError, match="Version must be set when copy_style is none"):
        millstream.deploy(base, dry_run=True, copy_style="none")


def test_two_environments_of_one_name_are_not_deployed_together() -> None:
    twin = millstream.TaskEnvironment("base")
    with pytest.raises(ValueError, match="Duplicate environment name 'base'"):
        plan_deploy(env, twin)
    with pytest.raises(TypeError, match="takes environments"):
        millstream.deploy(job, dry_run=True)


def test_the_interface_of_a_deployed_task_is_that_of_its_function() -> None:
    found = details()
    assert (found.name, found.version, found.task_type) == ("shown.job", "v1", "python")
    assert found.required_args == ("when",)
    assert found.default_input_args == ("n", "tag")
    assert found.interface.annotations == job.interface.annotations
    assert found.interface.digest == job.interface.digest
    assert found.json_schema["required"] == ["when"]
    assert found.policy() == job.policy()
    assert (found.cache.version_override, found.cache_version) == ("7", "7")


def test_a_deployed_task_is_overridden_with_what_bears_on_a_call() -> None:
    changed = details().override(retries=5, timeout=3, env_vars={"A": "1"}, queue="q")
    policy = changed.policy()
    assert (policy.retries, policy.runtime_max_ms, policy.queue) == (5, 3000, "q")
    assert policy.env_vars == (("A", "1"),)
    assert details().policy().retries == 2
    assert details().override(cache=millstream.Cache("disable")).cache.behavior == "disable"
    with pytest.raises(RemoteTaskUsageError, match="pod_template"):
        details().override(pod_template="x")
    with pytest.raises(ValueError, match="version_override"):
        details().override(cache=millstream.Cache("override"))


async def test_a_deployed_task_is_called_on_a_cluster_only() -> None:
    with pytest.raises(RemoteTaskUsageError, match="by name only"):
        await details()(1)
    with pytest.raises(RemoteTaskUsageError, match="runs on a cluster only"):
        await details()(when=datetime(2026, 1, 1))  # noqa: DTZ001 - as users write it
    with pytest.raises(RemoteTaskUsageError, match="runs on a cluster only"):
        await millstream.remote.Task.get("a.b", version="1")(x=1)
    with pytest.raises(RemoteTaskUsageError, match="local mode"):
        millstream.with_runcontext(mode="local").run(details(), n=1)


def test_a_reference_says_which_version_it_means() -> None:
    entity = millstream.remote.Task.get("a.b", auto_version="latest")
    assert isinstance(entity, LazyEntity)
    assert (entity.name, str(entity)) == ("a.b", "Future for task with name a.b")
    assert isinstance(entity.override(retries=1), LazyEntity)
    with pytest.raises(ValueError, match="Either version or auto_version"):
        millstream.remote.Task.get("a.b")
    with pytest.raises(ValueError, match="'latest' or 'current'"):
        millstream.remote.Task.get("a.b", auto_version="newest")
    with pytest.raises(ValueError, match="only be used within a task"):
        millstream.remote.Task.get("a.b", auto_version="current").fetch()


def test_a_trigger_keeps_its_inputs_apart_from_the_time() -> None:
    found = details()
    request = trigger_record(job.triggers[0], found, found.record, Sink(), who="me")
    assert request.record.time_input == "when"
    assert found.record.ref == request.record.task
    assert request.record.schedule is not None
    timed = {"when": millstream.TriggerTime}
    bad = millstream.Trigger("a", millstream.Cron("61 * * * *"), inputs=timed)
    with pytest.raises(ValueError, match="no cron expression"):
        trigger_record(bad, found, found.record, Sink(), who="")
    missing = millstream.Trigger("a", millstream.Cron("@daily"))
    with pytest.raises(RuntimeDataValidationError, match="when"):
        trigger_record(missing, found, found.record, Sink(), who="")


@pytest.mark.parametrize("given", [("daily",), 3, [millstream.Trigger.daily(), None]])
def test_only_triggers_are_taken_as_triggers(given: object) -> None:
    odd = millstream.TaskEnvironment("odd")
    with pytest.raises(TypeError, match="takes Trigger objects, not"):
        odd.task(triggers=given)(below.func)
    with pytest.raises(TypeError, match="takes Trigger objects, not"):
        below.override(triggers=given)


def test_a_deployed_reference_brings_its_own_code() -> None:
    task = cast("Any", details())
    code = code_of(installation(), RunOptions(), task, ships_code=True)
    assert (code.bundle, code.pickled) == (None, None)


def test_a_triggers_settings_hold_for_every_action_of_its_runs() -> None:
    hourly = millstream.Trigger.hourly(
        env_vars={"A": "1"},
        queue="night",
        interruptible=True,
        annotations={"team": "x"},
        notifications=millstream.notify.Slack(on_phase="failed", webhook_url="https://h"),
    )
    own = millstream.TaskEnvironment("with_trigger")

    @own.task(triggers=hourly)
    async def job() -> None: ...

    (made,) = millstream.deploy(own, dry_run=True)
    (record,) = made.envs["with_trigger"].deployed_entities[0].deployed_triggers
    policy = record.policy
    assert (policy.queue, policy.env_vars) == ("night", (("A", "1"),))
    assert policy.needs is not None
    assert policy.needs.interruptible
    assert policy.wide == RunWide((("A", "1"),), "night", interruptible=True)
    assert [key for key, _ in record.notes] == ["annotation:team", "notice:0"]


@pytest.mark.parametrize("asked", [True, False])
def test_a_run_says_for_all_its_tasks_whether_they_may_be_interrupted(asked: bool) -> None:
    other = Policy(needs=Needs(interruptible=not asked, gpus=1))
    wide = RunOptions(interruptible=asked).wide()
    needs = msgspec.structs.replace(other, **spread(wide, other)).needs
    assert needs == Needs(interruptible=asked, gpus=1)
    assert "needs" not in spread(RunOptions(queue="q").wide(), other)


@on_artifact_env.task
async def arriving(model: File, day: datetime, region: str = "eu", n: int = 1) -> None: ...


def test_a_trigger_for_an_artifact_keeps_its_inputs_apart_from_what_arrives() -> None:
    task = cast("Any", arriving)
    record = details().record
    automation = millstream.OnArtifact("model", date="2026-08-01")
    request = trigger_record(
        millstream.Trigger(
            "a",
            automation,
            inputs={
                "model": millstream.TriggeredArtifact,
                "day": millstream.TriggeredPartition("date"),
                "region": millstream.TriggeredPartition("region"),
                "n": 5,
            },
        ),
        task,
        record,
        Sink(),
        who="me",
    )
    assert request.record.schedule is None
    assert request.record.artifact == ArtifactPattern(
        "model",
        "",
        (("date", "2026-08-01"),),
        "model",
        (("day", "date", True), ("region", "region", False)),
    )
    assert msgspec.msgpack.decode(request.content) == {"n": 5}


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ({"gone": millstream.TriggeredArtifact}, "'gone' must be an input to the task"),
        ({"gone": millstream.TriggeredPartition("d")}, "'gone' must be an input to the task"),
        ({"n": millstream.TriggeredPartition("d")}, "must be typed datetime"),
        ({"model": millstream.TriggeredArtifact}, "day"),
    ],
)
def test_what_no_artifact_can_fill_is_refused_at_deploy(inputs: dict[str, Any], match: str) -> None:
    trigger = millstream.Trigger("a", millstream.OnArtifact("model"), inputs=inputs)
    with pytest.raises(ValueError, match=match):
        trigger_record(trigger, cast("Any", arriving), details().record, Sink(), who="")
