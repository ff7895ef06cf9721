"""`kill -9` of each part at several moments of a run: same result, nothing finished runs again.

A moment is a number of actions that the log says have succeeded, so the points lie between
appends, releases and reports rather than at random times.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dev_tree import (
    DevTree,
    assert_audit_is_clean,
    dev_tree,
    events_of,
    expected_root,
    wait_for_run,
    whole_log,
)

from millstream_events import model as m

pytestmark = pytest.mark.chaos

BRANCHES, WIDTH = 6, 8
#: root + branches * (branch + step + leaves + sync leaf)
ACTIONS = 1 + BRANCHES * (3 + WIDTH)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[DevTree]:
    with dev_tree(tmp_path) as running:
        yield running


def record(what: str, seconds: float) -> None:
    """Print what a fault cost, for `make faults`."""
    print(f"\n{what}: next success after {seconds:.2f} s")


@pytest.mark.parametrize("succeeded", [0, 1, 7, 25, 60])
@pytest.mark.parametrize("victim", ["scheduler", "agent", "worker", "nats"])
async def test_a_run_survives_kill_9_and_nothing_finished_runs_again(
    tree: DevTree, victim: str, succeeded: int
) -> None:
    client = tree.submit("root", "r", branches=BRANCHES, width=WIDTH)
    async with tree.connected() as connection:
        await wait_for_run(connection, "r", lambda run: run.rev > 0 and run.succeeded >= succeeded)
        killed_ns = time.time_ns()
        if victim == "worker":
            for pid in tree.workers()[:1]:
                os.kill(pid, signal.SIGKILL)
        else:
            tree.kill(victim)
        result = tree.result(client)
        entries = await whole_log(connection)
    assert result["phase"] == "SUCCEEDED", result
    assert result["outputs"] == [expected_root(BRANCHES, WIDTH)]
    assert_audit_is_clean(entries)
    events = events_of(entries)
    successes = [
        (ts_ns, event)
        for _, ts_ns, event in events
        if isinstance(event, m.AttemptSucceeded | m.TraceRecorded)
    ]
    assert len({event.action for _, event in successes}) == ACTIONS
    later = [ts_ns for ts_ns, _ in successes if ts_ns > killed_ns]
    if later:
        record(f"kill -9 of the {victim} after {succeeded}", (later[0] - killed_ns) / 1e9)
    runs = tree.executions()
    assert_each_body_ran_as_often_as_it_was_started(events, runs)
    if victim in ("scheduler", "nats"):
        assert set(runs.values()) == {1}, {k: v for k, v in runs.items() if v > 1}


def assert_each_body_ran_as_often_as_it_was_started(
    events: list[tuple[str, int, m.Event]], runs: dict[str, int]
) -> None:
    """No action that had succeeded was started again, and no more bodies ran than were lost."""
    done: set[int] = set()
    lost = 0
    for _, _, event in events:
        if isinstance(event, m.AttemptDispatched):
            assert event.action not in done, event
        elif isinstance(event, m.AttemptSucceeded):
            done.add(event.action)
        elif isinstance(event, m.AttemptLost | m.AttemptFailed):
            lost += 1
    assert sum(runs.values()) - len(runs) <= lost, runs


@pytest.mark.parametrize("succeeded", [3, 30])
async def test_a_run_goes_on_without_the_client_that_started_it(
    tree: DevTree, succeeded: int
) -> None:
    client = tree.submit("root", "r", branches=BRANCHES, width=WIDTH)
    async with tree.connected() as connection:
        await wait_for_run(connection, "r", lambda run: run.succeeded >= succeeded)
        client.kill()
        client.communicate()
        run = await wait_for_run(connection, "r", lambda run: run.finished)
        assert run.phase == "SUCCEEDED"
        assert set(tree.executions().values()) == {1}
        assert_audit_is_clean(await whole_log(connection))
    shown = json.loads(tree.run("get", "run", "r", "-o", "json").stdout)
    assert shown["phase"] == "SUCCEEDED"


async def test_the_same_name_again_is_the_same_run(tree: DevTree) -> None:
    first = tree.result(tree.submit("wide", "once", width=5))
    again = tree.result(tree.submit("wide", "once", width=5))
    assert (again["run"], again["outputs"]) == (first["run"], first["outputs"])
    assert set(tree.executions().values()) == {1}
    other = tree.run("run", "flow.py", "wide", "--width", "6", "--name", "once", "-o", "json")
    assert other.returncode == 1
    assert "name-taken" in other.stderr


async def test_a_parent_killed_with_a_thousand_children_in_flight_re_attaches_to_them(
    tree: DevTree,
) -> None:
    width = 1_000
    client = tree.submit("wide", "r", width=width)
    async with tree.connected() as connection:
        run = await wait_for_run(connection, "r", lambda run: len(run.actions) > width)
        parent = run.actions[0]
        before = await whole_log(connection)
        finished = {
            event.action
            for _, _, event in events_of(before)
            if isinstance(event, m.AttemptSucceeded)
        }
        assert parent.token
        for pid in tree.workers():
            os.kill(pid, signal.SIGKILL)
        result = tree.result(client, deadline_s=120)
        entries = await whole_log(connection)
    assert result["outputs"] == [sum(i * i for i in range(width))]
    assert_audit_is_clean(entries)
    events = events_of(entries)
    requested = [event for _, _, event in events if isinstance(event, m.ActionRequested)]
    assert len(requested) == width
    again = {
        event.action
        for _, _, event in events_of(entries[len(before) :])
        if isinstance(event, m.AttemptDispatched)
    }
    assert not again & finished


async def test_a_stopped_leader_that_wakes_up_after_its_lease_changes_nothing(
    tree: DevTree,
) -> None:
    client = tree.submit("root", "r", branches=BRANCHES, width=WIDTH)
    async with tree.connected() as connection:
        await wait_for_run(connection, "r", lambda run: run.succeeded >= 10)
        zombie = tree.kill("scheduler", signal.SIGSTOP)
        config = tree.folder / ".millstream" / "run" / "scheduler.json"
        settings = json.loads(config.read_text())
        settings["node"] = "standby"
        standby = tree.folder / "standby.json"
        standby.write_text(json.dumps(settings))
        standby.chmod(0o600)
        second = subprocess.Popen(
            [sys.executable, "-m", "millstream_scheduler", "--config", str(standby)],
            stderr=subprocess.DEVNULL,
        )
        try:
            result = tree.result(client)
            os.kill(zombie, signal.SIGCONT)
            again = tree.result(tree.submit("slow", "after", seconds=0.1))
            entries = await whole_log(connection)
        finally:
            os.kill(zombie, signal.SIGCONT)
            second.terminate()
            second.wait(10)
    assert result["outputs"] == [expected_root(BRANCHES, WIDTH)]
    assert again["phase"] == "SUCCEEDED"
    assert_audit_is_clean(entries)
    assert set(tree.executions().values()) == {1}
    nodes = [e.node for _, _, e in events_of(entries) if isinstance(e, m.LeaderElected)]
    assert "standby" in nodes
