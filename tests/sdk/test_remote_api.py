"""What `millstream.remote` tells of runs, on the whole core in this process."""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import millstream as flyte
from millstream import _remote_index
from millstream.models import ActionPhase
from millstream.remote import Action, ActionDetails, Project, Run, RunDetails, TimeFilter

env = flyte.TaskEnvironment("remote")


@dataclass
class Point:
    x: int
    y: int


@flyte.trace
async def twice(n: int) -> int:
    return 2 * n


@env.task
async def leaf(n: int) -> int:
    return n + 1


@env.task
async def main(n: int, where: Point) -> tuple[int, Point]:
    return await leaf(await twice(n)), Point(where.y, where.x)


@env.task(retries=1)
async def bad(n: int) -> int:
    raise ValueError(f"no {n}")


@env.task
async def calls_bad() -> int:
    return await bad(7)


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    flyte.init(mode="local", project="shop")
    yield
    flyte.shutdown()


@pytest.fixture(scope="module")
def run(installed: None) -> Run[Any]:
    context = flyte.with_runcontext(name="first", labels={"team": "a", "kind": "x"})
    return context.run(main, 3, Point(1, 2))


@pytest.fixture(scope="module")
def failed(run: Run[Any]) -> str:
    with pytest.raises(flyte.errors.RuntimeUserError):
        flyte.with_runcontext(name="second", labels={"team": "b"}).run(calls_bad)
    return "second"


def names(**chosen: Any) -> list[str]:
    return [each.name for each in Run.listall(**chosen)]


def test_a_run_tells_its_phase_in_words_and_numbers(run: Run[Any], failed: str):
    assert run.phase is ActionPhase.SUCCEEDED
    assert (run.phase == "succeeded", run.phase.is_terminal, run.raw_phase) == (True, True, 5)
    other = Run.get(failed)
    assert (other.phase, other.raw_phase, other.done()) == ("failed", 6, True)
    assert run.sync() is run
    assert (run.action.name, run.action.task_name) == ("a0", "remote.main")


def test_inputs_and_outputs_come_back_in_the_types_asked_for(run: Run[Any]):
    assert dict(run.inputs()) == {"n": 3, "where": Point(1, 2)}
    assert run.inputs()["n"] == 3
    outputs = run.outputs()
    assert outputs == (7, Point(2, 1))
    assert outputs.named_outputs == {"o0": 7, "o1": Point(2, 1)}
    assert run.typed_outputs({"o1": Point}) == {"o1": Point(2, 1)}
    assert run.typed_inputs({"n": int, "absent": int}) == {"n": 3}
    seen = run.typed_outputs({"o1": Point}, deserializers={Point: lambda raw: sorted(raw)})
    assert seen == {"o1": ["x", "y"]}


async def test_details_can_be_awaited_and_used_at_once(run: Run[Any]):
    details = await run.details.aio()
    assert isinstance(details, RunDetails)
    assert (details.name, details.task_name, details.done()) == ("first", "remote.main", True)
    assert (await details.outputs())[0] == 7
    action = await Action.get.aio(run_name="first", name="a0")
    assert (await action.details()).name == action.details().name == "a0"
    assert [each.phase async for each in action.watch()][-1] is ActionPhase.SUCCEEDED
    assert [each.phase async for each in run.watch()][-1] is ActionPhase.SUCCEEDED
    await action.wait()


def test_actions_are_listed_by_phase_parent_and_order(run: Run[Any], failed: str):
    listed = list(Action.listall(for_run_name="first"))
    assert [each.name for each in listed] == ["a0", "a1", "a2"]
    assert [each.parent_name for each in listed] == [None, "a0", "a0"]
    assert [each.task_name for each in listed] == ["remote.main", None, "remote.leaf"]
    assert [a.name for a in Action.listall("first", parent_name="a0")] == ["a1", "a2"]
    down = list(Action.listall("first", sort_by=("created_at", "desc")))
    assert down[-1].name == "a0"
    assert [a.name for a in Action.listall(failed, in_phase=("failed",))] == ["a0", "a1"]
    assert not list(Action.listall(failed, in_phase=(ActionPhase.ABORTED,)))


def test_an_attempt_tells_how_long_each_phase_took(run: Run[Any], failed: str):
    details = Action.get(run_name="first", name="a2").details()
    phases = [each.phase for each in details.get_phase_transitions()]
    assert phases == ["queued", "initializing", "running", "succeeded"]
    assert all(each.duration >= dt.timedelta() for each in details.get_phase_transitions())
    assert details.running_time is not None
    assert details.queued_time is not None
    assert details.waiting_for_resources_time is None
    assert details.runtime >= dt.timedelta()
    assert (details.attempts, details.logs_available()) == (1, True)
    retried = Action.get(run_name=failed, name="a1").details()
    assert retried.attempts == 2
    assert [each.phase for each in retried.get_phase_transitions(1)][-2:] == [
        "running",
        "failed",
    ]
    assert [each.phase for each in retried.get_phase_transitions()][-1] == "failed"
    assert retried.get_phase_transitions(9) == []


def test_a_failure_says_why_and_the_first_one_is_the_deepest(failed: str):
    run = Run.get(failed)
    details = run.first_failure()
    assert details is not None
    assert (details.name, details.task_name, details.error_message) == ("a1", "remote.bad", "no 7")
    assert details.error_info is not None
    assert (details.error_info.kind, details.error_info.code) == ("USER", "ValueError")
    assert details.abort_info is None
    with pytest.raises(flyte.errors.RuntimeUserError):
        run.raise_for_status()


def test_an_action_that_is_not_over_has_no_outputs(run: Run[Any]):
    details = Action.get("first/a0").details()
    assert details.done()
    with pytest.raises(flyte.errors.RejectedError, match="a9"):
        Action.get(run_name="first", name="a9")
    with pytest.raises(ValueError, match="run_name"):
        ActionDetails.get(name="a0")


def test_runs_are_listed_by_everything_that_is_known_of_them(run: Run[Any], failed: str):
    assert names() == ["first", "second"]
    assert names(sort_by=("created_at", "desc"), limit=1) == ["second"]
    assert names(in_phase=("failed", ActionPhase.ABORTED)) == ["second"]
    assert names(in_phase="succeeded") == ["first"]
    assert names(task_name="remote.main") == ["first"]
    assert names(with_labels={"team": "b"}) == ["second"]
    assert names(with_labels={"team": "a", "kind": "x"}) == ["first"]
    assert names(with_label_keys=["kind"]) == ["first"]
    assert names(project="elsewhere") == names(paused_actions_only=True) == []
    assert names(created_by_subject=run.details().view["who"]) == ["first", "second"]
    hour = dt.timedelta(hours=1)
    now = dt.datetime.now(dt.UTC)
    assert names(created_at=TimeFilter(after=now - hour, before=now + hour)) == ["first", "second"]
    assert names(updated_at=TimeFilter(after=now + hour)) == []
    version = main.ref().identity.hex()
    assert names(task_version=version) == ["first"]
    with pytest.raises(ValueError, match="no phase"):
        names(in_phase=("done",))
    with pytest.raises(ValueError, match="sort"):
        names(sort_by=("colour", "asc"))


async def test_a_second_listing_reads_only_what_is_new(run: Run[Any]):
    index = _remote_index.RunIndex(run._client.log)
    await index.refresh()
    seq = index._seq
    calls: list[int] = []
    read = index._log.read

    async def counted(after_seq: int, **others: Any) -> Any:
        calls.append(after_seq)
        return await read(after_seq, **others)

    index._log.read = counted  # type: ignore[method-assign]
    try:
        await index.refresh()
    finally:
        del index._log.read
    assert calls == [seq]
    assert all(len(each.actions) == 1 for each in index._shard.runs.values())


async def test_an_index_lets_go_of_the_oldest_finished_runs(
    run: Run[Any], failed: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_remote_index, "FINISHED_RUNS_MAX", 1)
    index = _remote_index.RunIndex(run._client.log)
    found = await index.runs(_remote_index.RunFilter())
    assert [each.name for each in found] == ["second"]


def test_projects_are_those_that_runs_belong_to(run: Run[Any]):
    assert [each.name for each in Project.listall()] == ["shop"]
    assert Project.get("shop").to_dict()["state"] == "active"
    assert list(Project.listall(archived=True)) == []
    with pytest.raises(flyte.errors.RejectedError):
        Project.get("nowhere")


def test_objects_become_plain_data_with_flytes_keys(run: Run[Any], failed: str):
    shown = json.loads(run.to_json())
    assert shown["action"]["id"] == {
        "run": {"project": "shop", "domain": shown["action"]["id"]["run"]["domain"],
                "name": "first"},
        "name": "a0",
    }  # fmt: skip
    assert shown["action"]["status"]["phase"] == "ACTION_PHASE_SUCCEEDED"
    assert shown["labels"] == {"team": "a", "kind": "x"}
    details = Action.get(run_name=failed, name="a1").details().to_dict()
    assert details["errorInfo"]["message"] == "no 7"


def test_reruns_need_a_cluster_and_arguments_that_agree():
    with pytest.raises(NotImplementedError, match="remote mode"):
        flyte.rerun("first")
    with pytest.raises(NotImplementedError, match="remote mode"):
        flyte.fork("first", main)
    remote = flyte.with_runcontext(mode="remote")
    with pytest.raises(ValueError, match="force_rerun_actions requires recover=True"):
        remote.rerun("first", force_rerun_actions=["a1"])
    with pytest.raises(ValueError, match="action_name='a1'"):
        remote.rerun("first", action_name="a1", recover=True)


def test_whoever_asks_has_a_name_and_metadata_for_a_login_is_warned_about() -> None:
    user = flyte.remote.User.get()
    assert user.subject()
    assert user.to_dict() == {"subject": user.subject(), "name": user.name()}
    with pytest.warns(UserWarning, match="auth_metadata"), flyte.remote.auth_metadata(("k", "v")):
        pass
    with pytest.raises(ValueError, match="No auth metadata"), flyte.remote.auth_metadata():
        pass
