"""Queues on a running cluster: made over the command line, kept through a killed scheduler."""

import asyncio
import contextlib
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from dev_tree import DevTree, dev_tree, events_of, whole_log

from millstream.cli.root import execute
from millstream_events.audit import audit
from millstream_events.model import AttemptDispatched, RunFinished

WORK = """
import asyncio
import millstream

env = millstream.TaskEnvironment("work", queue="narrow")

@env.task
async def leaf(n: int) -> int:
    await asyncio.sleep(0.01)
    return n

@env.task
async def fan(n: int) -> int:
    return sum(await asyncio.gather(*(leaf(i) for i in range(n))))

@env.task
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    folder = tmp_path_factory.mktemp("queues")
    (folder / "work.py").write_text(WORK)
    with dev_tree(folder, "--slots", "4", "--workers", "1") as made:
        yield made


def command(tree: DevTree, *arguments: str) -> tuple[int, str, str]:
    """Run a command line in this process: exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(tree.folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = execute(arguments)
    return code, out.getvalue(), err.getvalue()


def json_of(tree: DevTree, *arguments: str) -> Any:
    code, out, err = command(tree, *arguments, "-o", "json")
    assert code == 0, err
    return json.loads(out)


def logged(tree: DevTree) -> list[tuple[str, int, Any]]:
    async def body() -> list[tuple[str, int, Any]]:
        async with tree.connected() as connection:
            return events_of(await whole_log(connection))

    return asyncio.run(body())


def test_a_queue_is_made_shown_and_changed(tree: DevTree) -> None:
    options = ("--run-concurrency", "1", "--action-concurrency", "2", "--depth", "5")
    made = json_of(tree, "create", "queue", "narrow", *options, "--priority", "max")
    assert made == {
        "name": "narrow", "state": "active", "priority": "max", "run_concurrency": 1,
        "action_concurrency": 2, "depth": 5, "pool": None, "runs": 0, "queued": 0, "running": 0,
        "configured": True,
    }  # fmt: skip
    assert json_of(tree, "create", "queue", "narrow", *options, "--priority", "max") == made
    assert command(tree, "create", "queue", "narrow")[0] == 1
    assert command(tree, "update", "queue", "other", "--depth", "1")[0] == 4
    assert command(tree, "get", "queue", "other")[0] == 4
    assert command(tree, "create", "queue", "no good")[0] == 2
    changed = json_of(tree, "update", "queue", "narrow", "--priority", "medium")
    assert (changed["priority"], changed["depth"]) == ("medium", 5)
    assert [queue["name"] for queue in json_of(tree, "get", "queues")] == ["narrow"]


def test_a_full_queue_costs_the_caller_time_and_nothing_else(tree: DevTree) -> None:
    # Forty calls at once, where five may wait and two may run.
    ended = tree.run("run", "work.py", "fan", "--n", "40", "-o", "json")
    shown = json.loads(ended.stdout)
    assert (shown["phase"], shown["outputs"]) == ("SUCCEEDED", [sum(range(40))])


def test_runs_of_a_queue_go_one_after_the_other_whoever_is_killed(tree: DevTree) -> None:
    names = [f"nap-{number}" for number in range(3)]
    for name in names:
        ended = tree.run(
            "run", "work.py", "nap", "--seconds", "0.2", "--name", name, "--detach"
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
    tree.kill("scheduler")
    over: set[str] = set()
    deadline_s = time.monotonic() + 30
    while len(over) < len(names) and time.monotonic() < deadline_s:
        over = {name for name in names if command(tree, "get", "run", name)[0] == 0}
        over = {n for n in over if json_of(tree, "get", "run", n)["phase"] == "SUCCEEDED"}
    assert over == set(names)
    runs = {json_of(tree, "get", "run", name)["id"] for name in names}
    order = [
        (key, type(event))
        for key, _, event in logged(tree)
        if key in runs and isinstance(event, AttemptDispatched | RunFinished)
    ]
    assert [kind for _, kind in order] == [AttemptDispatched, RunFinished] * 3


def test_a_drained_queue_takes_no_runs_until_it_is_active_again(tree: DevTree) -> None:
    drained = json_of(tree, "update", "queue", "narrow", "--drain")
    assert drained["state"] == "drained"
    ended = tree.run("run", "work.py", "nap", "--seconds", "0", "-o", "json")
    assert ended.returncode == 3, ended.stderr
    assert "queue 'narrow' is being drained" in ended.stderr
    assert json_of(tree, "update", "queue", "narrow", "--activate")["state"] == "active"
    assert tree.run("run", "work.py", "nap", "--seconds", "0").returncode == 0
    assert json_of(tree, "delete", "queue", "narrow")["deleted"] is True
    assert json_of(tree, "get", "queues") == []


def test_the_log_of_it_all_keeps_every_invariant(tree: DevTree) -> None:
    async def body() -> None:
        async with tree.connected() as connection:
            report = audit(await whole_log(connection), quiescent=True)
        assert report.violations == ()

    asyncio.run(body())
