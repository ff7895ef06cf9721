"""Deployed tasks and triggers on a running cluster, also through a killed scheduler."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from dev_tree import DevTree, dev_tree, whole_log

from millstream_events.audit import audit

LIBRARY = """
from datetime import datetime, timedelta, timezone
import millstream

env = millstream.TaskEnvironment("lib")
START = datetime.fromtimestamp({start}, timezone.utc)

@env.task
async def inner(n: int) -> str:
    return f"{word} {{n}}"

@env.task
async def outer(n: int, times: list[int] | None = None) -> str:
    return await inner(n)

timed = millstream.TaskEnvironment("timed", depends_on=[env])

@timed.task(triggers=(
    millstream.Trigger(
        "soon", millstream.FixedRate(60, START), inputs={{"at": millstream.TriggerTime}}
    ),
    millstream.Trigger.daily("at", auto_activate=False),
))
async def tick(at: datetime, n: int = 1) -> list:
    return [at == START, millstream.ctx().run_start_time == at, n]
"""
CALLER = """
import millstream

env = millstream.TaskEnvironment("caller")
latest = millstream.remote.Task.get("lib.outer", auto_version="latest")

@env.task(retries=1)
async def main(n: int) -> list:
    first = await latest(n=n)
    pinned = await millstream.remote.Task.get("lib.outer", version="v1")(n=n)
    again = await latest.override(short_name="again").fetch.aio()
    if millstream.ctx().attempt_number == 0:
        raise ValueError("once")
    try:
        await millstream.remote.Task.get("lib.gone", auto_version="latest")(n=n)
    except millstream.errors.RemoteTaskNotFoundError as exc:
        return [first, pinned, again.version, type(exc).__name__]
    return []
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    folder = tmp_path_factory.mktemp("deploys")
    (folder / "caller.py").write_text(CALLER)
    with dev_tree(folder, "--slots", "4", "--workers", "1") as made:
        yield made


def write(tree: DevTree, word: str, start_s: float = 0.0) -> None:
    (tree.folder / "lib.py").write_text(LIBRARY.format(word=word, start=start_s))


def json_of(tree: DevTree, *arguments: str) -> Any:
    ended = tree.run(*arguments, "-o", "json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_deployed_tasks_are_called_with_the_code_that_they_were_deployed_with(
    tree: DevTree,
) -> None:
    write(tree, "old")
    rows = json_of(tree, "deploy", "lib.py", "env", "--version", "v1")
    assert [row["name"] for row in rows] == ["lib.inner", "lib.outer"]
    assert json_of(tree, "deploy", "lib.py", "env", "--version", "v1") == rows
    write(tree, "new")
    taken = tree.run("deploy", "lib.py", "env", "--version", "v1")
    assert taken.returncode == 1
    assert "with other content" in taken.stderr
    json_of(tree, "deploy", "lib.py", "env", "--version", "v2")
    # The file that the tasks came from is gone: their code is in the cluster.
    (tree.folder / "lib.py").unlink()
    made = json_of(tree, "run", "caller.py", "main", "--n", "3")
    assert made["outputs"] == [["new 3", "old 3", "v2", "RemoteTaskNotFoundError"]]
    one = json_of(tree, "run", "deployed-task", "lib.outer", "--version", "v1", "--n", "4")
    assert one["outputs"] == ["old 4"]
    listed = json_of(tree, "get", "task", "lib.outer")
    assert [row["version"] for row in listed] == ["v1", "v2"]
    assert tree.run("run", "deployed-task", "lib.gone", "--n", "4").returncode == 4


def test_a_trigger_fires_once_through_a_killed_scheduler(tree: DevTree) -> None:
    write(tree, "timed", round(time.time()) + 6)
    json_of(tree, "deploy", "lib.py", "timed", "--version", "t1")
    tree.kill("scheduler")
    deadline_s = time.monotonic() + 30
    while not (runs := json_of(tree, "get", "run", "--task-name", "timed.tick")):
        assert time.monotonic() < deadline_s
    (run,) = runs
    shown = json_of(tree, "get", "trigger", "timed.tick", "soon")
    assert shown["fired_run"] == run["id"]
    ended = tree.run("watch", run["id"], "-o", "json")
    assert ended.returncode == 0, ended.stderr
    daily = json_of(tree, "update", "trigger", "daily", "timed.tick", "--activate")
    assert daily == {"name": "daily", "task": "timed.tick", "active": True}
    assert json_of(tree, "get", "trigger", "timed.tick", "daily")["active"] is True
    json_of(tree, "delete", "trigger", "daily", "timed.tick")
    assert [row["name"] for row in json_of(tree, "get", "trigger")] == ["soon"]
    assert len(json_of(tree, "get", "run", "--task-name", "timed.tick")) == 1


def test_the_log_of_it_all_keeps_every_invariant(tree: DevTree) -> None:
    async def body() -> None:
        async with tree.connected() as connection:
            report = audit(await whole_log(connection), quiescent=True)
        assert report.violations == ()

    asyncio.run(body())
