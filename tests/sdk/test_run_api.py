"""Submitting and waiting, with a real leader on an installation in memory."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import millstream
from millstream import _client
from millstream._client import Client
from millstream._config import Settings
from millstream._init import Installation
from millstream._outputs import outputs_of
from millstream._submit import RunOptions, Submission, needs_uploads, prepare, store_uploads
from millstream._task import Task
from millstream.errors import CodeBundleError, RuntimeDataValidationError
from millstream_events.clock import SystemClock
from millstream_events.commands import SubmitRun
from millstream_events.errors import (
    ClusterNotReachedError,
    LogUnavailableError,
    PayloadTooLargeError,
    RejectedError,
)
from millstream_events.memory import MemoryConnection
from millstream_events.values import INLINE_BYTES_MAX, Blob, Inline, TaskRef
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.shard import ShardOwner

DEADLINE_S = 20


@pytest.fixture
def connection() -> MemoryConnection:
    return MemoryConnection()


@pytest.fixture
async def leader(connection: MemoryConnection, tmp_path: Path) -> AsyncIterator[None]:
    config = SchedulerConfig(endpoint=connection.endpoint, node="test", data_dir=str(tmp_path))
    stop = asyncio.Event()
    owner = ShardOwner(connection.peer(), SystemClock(), config, tmp_path / "scheduler.json")  # type: ignore[arg-type]
    serving = asyncio.create_task(owner.run(stop))
    yield
    stop.set()
    await asyncio.wait_for(serving, DEADLINE_S)


@pytest.fixture
async def client(connection: MemoryConnection) -> AsyncIterator[Client]:
    client = Client(connection, connection.endpoint)
    yield client
    await client.close()


def submission(client: Client, *, name: str = "", body: bytes = b"b", **fields: Any) -> SubmitRun:
    return SubmitRun(
        command=_client.new_command_id(),
        run=client.new_run_id(),
        task=TaskRef("env.work", "flow", "work"),
        project="p",
        name=name,
        body=body,
        **fields,
    )


@pytest.mark.usefixtures("leader")
async def test_a_submitted_run_is_accepted_described_aborted_and_released(client: Client):
    async with asyncio.timeout(DEADLINE_S):
        command = submission(client)
        accepted = await client.submit(command)
        assert (accepted.run, accepted.command) == (command.run, command.command)
        described = await client.describe()
        assert (described.shard, described.runs_live) == ("lo00", 1)
        waiting = asyncio.create_task(client.wait(command.run))
        await client.abort_run(command.run, "enough")
        released = await waiting
        assert (released.run, released.phase) == (command.run, "ABORTED")
        assert (await client.wait(command.run)).phase == "ABORTED"


@pytest.mark.usefixtures("leader")
async def test_a_name_leads_to_one_run_and_is_refused_for_another_body(client: Client):
    async with asyncio.timeout(DEADLINE_S):
        first = await client.submit(submission(client, name="nightly"))
        again = await client.submit(submission(client, name="nightly"))
        assert again.run == first.run
        assert await client.resolve("nightly", "p") == first.run
        with pytest.raises(RejectedError) as refused:
            await client.submit(submission(client, name="nightly", body=b"other"))
        assert refused.value.reason_code == "name-taken"


@pytest.mark.usefixtures("leader")
async def test_a_known_name_releases_the_run_that_has_it(client: Client):
    async with asyncio.timeout(DEADLINE_S):
        first = await client.submit(submission(client, name="nightly"))
        released: asyncio.Future[Any] = client.loop.create_future()
        accepted: asyncio.Future[Any] = client.loop.create_future()
        again = submission(client, name="nightly")
        client.submit_with(again, accepted.set_result, released.set_result)
        assert (await accepted).run == first.run
        await client.abort_run(first.run)
        assert (await released).run == first.run


@pytest.mark.usefixtures("leader")
@pytest.mark.parametrize("ask", ["wait", "abort_run", "resolve"])
async def test_a_run_that_nobody_knows_is_refused(client: Client, ask: str):
    args = ("no-name", "p") if ask == "resolve" else ("lo00-00000000-00000000",)
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(RejectedError) as refused:
            await getattr(client, ask)(*args)
    assert refused.value.reason_code == "no-such-run"


@pytest.mark.usefixtures("leader")
async def test_what_was_sent_into_a_broken_connection_is_sent_again(
    client: Client, connection: MemoryConnection
):
    async with asyncio.timeout(DEADLINE_S):
        await client.describe()
        connection.cut()
        asking = asyncio.create_task(client.submit(submission(client)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        connection.restore()
        assert (await asking).rev > 0


async def test_without_any_leader_a_command_fails_at_its_deadline(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_client, "ANSWER_DEADLINE_S", 0.05)
    with pytest.raises(ClusterNotReachedError, match="memory:"):
        await client.submit(submission(client))


async def test_with_a_silent_leader_the_error_says_that_nothing_is_known(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_client, "ANSWER_DEADLINE_S", 0.05)
    client._core.announce(3)
    with pytest.raises(LogUnavailableError, match="lo00"):
        await client.submit(submission(client))


async def test_a_command_too_large_for_a_message_fails_alone(client: Client):
    large = submission(client, context=(("k", "v" * 2_000_000),))
    with pytest.raises(PayloadTooLargeError):
        await client.submit(large)
    assert client._core.open_count == 0


async def test_closing_fails_whatever_is_open_and_whatever_comes_later(client: Client):
    submitting = asyncio.create_task(client.submit(submission(client)))
    waiting = asyncio.create_task(client.wait("lo00-00000000-00000000"))
    await asyncio.sleep(0)
    await client.close()
    for task in (submitting, waiting):
        with pytest.raises(ClusterNotReachedError, match="closed"):
            await task
    with pytest.raises(ClusterNotReachedError, match="closed"):
        await client.describe()


async def test_giving_up_waiting_leaves_nothing_behind(client: Client):
    for work in (client.wait("lo00-00000000-00000000"), client.submit(submission(client))):
        task = asyncio.create_task(work)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert client._core.open_count == 0
    assert client._core.next_due_ms() is None


# ------------------------------------------------------------------ what is submitted

_FLOW = """
import millstream
env = millstream.TaskEnvironment("flow", env_vars={"A": "1"})
@env.task(cache="auto")
async def work(x: int, text: str = "") -> int:
    return x
@env.task
def pair(x: int) -> tuple[int, str]:
    return x, str(x)
@env.task
def nothing() -> None:
    pass
"""
Prepare = Callable[..., Submission]


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "flow_of_test.py").write_text(_FLOW)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    yield __import__("flow_of_test")
    del sys.modules["flow_of_test"]


@pytest.fixture
async def made(client: Client, tmp_path: Path) -> Prepare:
    place = Installation(Settings(project="p", domain="d"), tmp_path)

    def make(
        task: Task[..., Any], *args: object, options: dict[str, Any] | None = None, **kwargs: object
    ) -> Submission:
        return prepare(place, client, RunOptions(**(options or {})), task, args, kwargs)

    return make


async def test_a_submission_says_what_runs_and_with_what(flow: Any, made: Prepare):
    command = made(flow.work, 3, text="x").command
    assert (command.task.module, command.task.qualname) == ("flow_of_test", "work")
    assert (command.project, command.domain, command.name) == ("p", "d", "")
    assert isinstance(command.inputs, Inline)
    assert command.policy is not None
    assert command.policy.env_vars == (("A", "1"),)
    assert command.cache_key
    assert command.bundle


async def test_options_of_the_run_win_over_those_of_the_task(flow: Any, made: Prepare):
    options = {
        "name": "n", "project": "q", "domain": "e", "env_vars": {"A": "2", "B": "3"},
        "labels": {"team": "x"}, "queue": "fast", "disable_run_cache": True,
        "custom_context": {"user": "u"}, "deadline_ms": 1500,
    }  # fmt: skip
    command = made(flow.work, 3, options=options).command
    assert (command.name, command.project, command.domain) == ("n", "q", "e")
    assert command.policy is not None
    assert command.policy.env_vars == (("A", "2"), ("B", "3"))
    assert command.policy.queue == "fast"
    assert command.labels == (("team", "x"),)
    assert command.context == (("user", "u"),)
    assert command.deadline_ms == 1500


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, ()),
        ({"overwrite_cache": True}, (("cache", "overwrite"),)),
        ({"disable_run_cache": True}, (("cache", "disable"),)),
        ({"overwrite_cache": True, "disable_run_cache": True}, (("cache", "disable"),)),
        ({"cache_lookup_scope": "project-domain"}, (("cache_scope", "project-domain"),)),
    ],
)
async def test_what_holds_for_every_action_of_a_run_travels_as_its_settings(
    flow: Any, made: Prepare, options: dict[str, Any], settings: tuple[tuple[str, str], ...]
):
    assert made(flow.work, 3, options=options).command.settings == settings


def test_an_unknown_scope_of_the_cache_is_refused():
    with pytest.raises(ValueError, match="project-domain"):
        millstream.with_runcontext(cache_lookup_scope="domain")  # type: ignore[arg-type]


async def test_the_body_is_equal_for_the_same_request_and_differs_for_another(
    flow: Any, made: Prepare
):
    first, again = made(flow.work, 3).command, made(flow.work, x=3).command
    assert first.body == again.body
    assert (first.run, first.command) != (again.run, again.command)
    others = [
        made(flow.work, 4),
        made(flow.pair, 3),
        made(flow.work.override(retries=2), 3),
        made(flow.work, 3, options={"queue": "fast"}),
    ]
    assert len({first.body, *(other.command.body for other in others)}) == 5


async def test_inputs_above_the_inline_limit_go_to_the_blob_store_first(
    flow: Any, made: Prepare, client: Client
):
    large = made(flow.work, 1, text="x" * INLINE_BYTES_MAX)
    assert isinstance(large.command.inputs, Blob)
    assert needs_uploads(client, large)
    await store_uploads(client, large)
    content = await client.content_of(large.command.inputs)
    assert len(content) == large.command.inputs.size_bytes
    assert not needs_uploads(client, made(flow.work, 1))


async def test_an_argument_that_does_not_fit_fails_before_anything_is_sent(
    flow: Any, made: Prepare
):
    with pytest.raises(RuntimeDataValidationError):
        made(flow.work, "three")


async def test_a_task_that_no_file_holds_is_pickled(made: Prepare):
    space: dict[str, Any] = {"__name__": "no_such_module"}
    exec(_FLOW.replace('cache="auto"', ""), space)
    prepared = made(space["work"], 3)
    assert prepared.command.task.pickled
    assert prepared.command.task.module == ""
    assert len(prepared.uploads) == 1
    assert made(space["work"], 3).command.body == prepared.command.body


async def test_code_from_elsewhere_is_refused_with_the_folder_that_would_do(
    flow: Any, client: Client, tmp_path: Path
):
    (tmp_path / "other").mkdir()
    place = Installation(Settings(root_dir=str(tmp_path / "other")), tmp_path)
    with pytest.raises(CodeBundleError, match="root_dir"):
        prepare(place, client, RunOptions(), flow.work, (1,), {})
    unpacked = prepare(place, client, RunOptions(copy_style="none"), flow.work, (1,), {})
    assert unpacked.command.bundle == b""


async def test_in_this_process_no_code_travels(
    flow: Any, connection: MemoryConnection, tmp_path: Path
):
    local = Client(connection.peer(), connection.endpoint, ships_code=False)
    prepared = prepare(Installation(Settings(), tmp_path), local, RunOptions(), flow.work, (1,), {})
    assert (prepared.bundle, prepared.uploads, prepared.command.bundle) == (None, (), b"")
    await local.close()


def test_outputs_are_a_tuple_with_names(flow: Any):
    several = outputs_of(flow.pair, (1, "1"))
    assert several == (1, "1")
    assert several.named_outputs == {"o0": 1, "o1": "1"}
    assert (several.o0, several.o1) == (1, "1")
    assert outputs_of(flow.work, 5) == (5,)
    assert outputs_of(flow.nothing, None) == (None,)
    assert outputs_of(None, [1, 2]) == ([1, 2],)
    with pytest.raises(AttributeError):
        _ = several.o2


@pytest.mark.parametrize(
    ("settings", "error"), [({"mode": "hybrid"}, ValueError), ({"modus": "local"}, TypeError)]
)
def test_unknown_options_are_refused(settings: dict[str, Any], error: type[Exception]):
    with pytest.raises(error):
        millstream.with_runcontext(**settings)


def test_options_of_flyte_without_effect_are_named_in_a_warning():
    with pytest.warns(millstream.MillstreamWarning, match="service_account, tracked"):
        millstream.with_runcontext(tracked=True, service_account="x", debug=False)
    with pytest.raises(TypeError, match="task"):
        millstream.run(print)  # type: ignore[arg-type]


def test_loading_a_script_in_a_worker_starts_no_run(flow: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MILLSTREAM_LOADING", "script.py")
    with pytest.raises(millstream.errors.InitializationError, match="__main__"):
        millstream.run(flow.work, 1)
