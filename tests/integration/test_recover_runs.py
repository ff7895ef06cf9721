"""Reruns, recoveries and forks on a real tree: what succeeded is never executed again."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from dev_tree import DevTree, dev_tree, wait_for_run

FLOW = """
import asyncio, os
from pathlib import Path
import millstream as flyte

env = flyte.TaskEnvironment("shop")
HERE = Path(os.environ["TRAIL"]).parent

def mark(line):
    descriptor = os.open(os.environ["TRAIL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (line + "\\n").encode())
    os.close(descriptor)

@flyte.trace
async def price(n: int) -> int:
    mark(f"price-{n}")
    return n * 10

@env.task
async def fetch(n: int) -> int:
    mark(f"fetch-{n}")
    return n

@env.task
async def bulky(n: int) -> bytes:
    mark(f"bulky-{n}")
    return bytes(20_000)

@env.task
async def pack(n: int) -> int:
    mark(f"pack-{n}")
    first = await price(n)
    got = await fetch(n + 100)
    if (HERE / "broken").exists():
        raise ValueError("the store is closed")
    return first + got

@env.task
async def talks(n: int) -> int:
    print("talks to", n)
    return await fetch(n)

@env.task
async def pick(n: int) -> int:
    mark(f"pick-{n}")
    inner = await fetch(n + 200)
    return inner

@env.task
async def main(n: int = 3, label: str = "x") -> tuple[int, str]:
    mark("main")
    total = await price(1000)
    total += sum(await asyncio.gather(*(fetch(i) for i in range(n))))
    total += await pick(1)
    total += len(await bulky(1))
    return total + await pack(7), label

@env.task
async def slow(n: int) -> int:
    mark("slow")
    done = 0
    for i in range(n):
        done += await fetch(i)
        done += await price(i)
    while not (HERE / "open").exists():
        await asyncio.sleep(0.02)
    return done
"""
EXPECTED = [10_000 + 3 + 201 + 20_000 + 70 + 107, "x"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    folder = tmp_path_factory.mktemp("recover")
    (folder / "shop.py").write_text(FLOW)
    with dev_tree(folder, "--slots", "4", "--workers", "2") as made:
        yield made


@pytest.fixture(autouse=True)
def clean(tree: DevTree) -> Iterator[None]:
    tree.trail.unlink(missing_ok=True)
    yield
    for name in ("broken", "open"):
        (tree.folder / name).unlink(missing_ok=True)


def shown(tree: DevTree, *arguments: str, status: int = 0) -> Any:
    ended = tree.run(*arguments, "-o", "json")
    assert ended.returncode == status, (ended.stdout, ended.stderr)
    return json.loads(ended.stdout)


def script(tree: DevTree, body: str) -> Any:
    head = "import json, shop\nimport millstream as flyte\n"
    ended = subprocess.run(
        [sys.executable, "-c", head + body], cwd=tree.folder, env=tree.environ(),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def failed_run(tree: DevTree, name: str) -> None:
    """A run that got as far as `pack`, which fails."""
    (tree.folder / "broken").touch()
    view = shown(tree, "run", "shop.py", "main", "--name", name, status=5)
    assert view["phase"] == "FAILED"
    (tree.folder / "broken").unlink()
    tree.trail.unlink()


def phases(tree: DevTree, run: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for action in shown(tree, "get", "action", run):
        found.setdefault(action["task"], []).append(action["phase"])
    return found


def test_a_recovery_executes_only_what_failed_and_its_callers(tree: DevTree) -> None:
    failed_run(tree, "r1")
    view = shown(tree, "rerun", "r1", "--recover")
    assert (view["phase"], view["outputs"]) == ("SUCCEEDED", EXPECTED)
    # Neither the tasks that succeeded nor the steps of the two callers ran again.
    assert tree.executions() == {"main": 1, "pack-7": 1}
    found = phases(tree, view["run"])
    assert found["shop.fetch"] == ["RECOVERED"] * 4
    assert (found["shop.pick"], found["shop.bulky"]) == (["RECOVERED"], ["RECOVERED"])
    assert (found["shop.main"], found["shop.pack"]) == (["SUCCEEDED"], ["SUCCEEDED"])
    run = shown(tree, "get", "run", view["run"])
    assert run["origin"] == shown(tree, "get", "run", "r1")["id"]
    # A recovery of the recovery finds everything, from both runs.
    tree.trail.unlink()
    again = shown(tree, "rerun", view["run"], "--recover")
    assert again["outputs"] == EXPECTED
    assert tree.executions() == {"main": 1}


def test_a_rerun_executes_everything_and_takes_changed_inputs(tree: DevTree) -> None:
    failed_run(tree, "r2")
    view = shown(tree, "rerun", "r2", "--n", "4", "--label", "kind=nightly")
    assert view["outputs"] == [EXPECTED[0] + 3, "x"]
    assert tree.executions()["fetch-0"] == 1
    assert shown(tree, "get", "run", view["run"])["labels"] == {"kind": "nightly"}
    found = script(tree, "print(json.dumps([*flyte.rerun('r2', n=1, label='y').outputs()]))")
    assert found == [EXPECTED[0] - 3, "y"]
    alone = shown(tree, "rerun", "r2", "--action-name", "a2")
    assert (alone["outputs"], len(phases(tree, alone["run"]))) == ([0], 1)


def test_a_forced_action_is_executed_again_with_its_callers(tree: DevTree) -> None:
    failed_run(tree, "r3")
    inner = next(
        action["name"]
        for action in shown(tree, "get", "action", "r3")
        if action["task"] == "shop.fetch" and action["parent"] not in (0, None)
    )
    view = shown(tree, "rerun", "r3", "--recover", "--force-rerun-action", inner)
    assert view["outputs"] == EXPECTED
    assert tree.executions() == {"main": 1, "pack-7": 1, "pick-1": 1, "fetch-201": 1}
    tree.trail.unlink()
    # From `pick` on: what was called before it is taken over.
    pick = next(
        action["name"]
        for action in shown(tree, "get", "action", "r3")
        if action["task"] == "shop.pick"
    )
    shown(tree, "rerun", "r3", "--from", pick)
    assert not [name for name in tree.executions() if name in ("fetch-0", "fetch-1", "fetch-2")]
    assert tree.executions()["bulky-1"] == tree.executions()["pick-1"] == 1


def test_a_fork_executes_what_changed_and_says_so_before(tree: DevTree) -> None:
    failed_run(tree, "r4")
    changed = FLOW.replace("inner = await fetch(n + 200)", "inner = 5 + await fetch(n + 200)")
    (tree.folder / "shop2.py").write_text(changed)
    view = shown(tree, "fork", "r4", "shop2.py", "main", "--dry-run")
    verdicts = {row["task"]: row["verdict"] for row in view["actions"]}
    assert verdicts["shop.pick"] == "code-changed"
    assert verdicts["shop.bulky"] == "reused"
    assert verdicts["shop.pack"] == "did-not-succeed"
    assert "caller-changed" in view["counts"]
    assert tree.executions() == {}
    forked = shown(tree, "fork", "r4", "shop2.py", "main")
    assert forked["outputs"] == [EXPECTED[0] + 5, "x"]
    assert tree.executions() == {"main": 1, "pack-7": 1, "pick-1": 1, "fetch-201": 1}
    body = "import shop2\nprint(json.dumps([*flyte.fork('r4', shop2.main, label='z').outputs()]))"
    assert script(tree, body) == [EXPECTED[0] + 5, "z"]
    difference = shown(tree, "diff", "r4", forked["run"], status=6)
    whats = {row["what"] for row in difference["differences"]}
    assert {"phase", "code", "output", "error"} <= whats
    assert shown(tree, "diff", forked["run"], forked["run"])["same"]


@pytest.mark.parametrize("victim", ["scheduler", "agent"])
async def test_a_recovery_survives_kills_and_still_executes_nothing_twice(
    tree: DevTree, victim: str
) -> None:
    name = f"kill-{victim}"
    again = f"{name}-again"
    first = shown(tree, "run", "shop.py", "slow", "--n", "20", "--name", name, "--detach")
    wait_until(lambda: tree.executions().get("price-19"))
    shown(tree, "abort", "run", first["run"])
    async with tree.connected() as connection:
        await wait_for_run(connection, name, lambda run: run.finished)
        tree.trail.unlink()
        shown(tree, "rerun", name, "--recover", "--detach", "--name", again)
        wait_until(lambda: tree.executions().get("slow"))
        tree.kill(victim)
        (tree.folder / "open").touch()
        run = await wait_for_run(connection, again, lambda run: run.finished)
    assert run.phase == "SUCCEEDED"
    # The caller alone, once for each attempt.
    assert set(tree.executions()) == {"slow"}


def test_what_cannot_be_recovered_is_refused_by_name(tree: DevTree) -> None:
    first = shown(tree, "run", "shop.py", "slow", "--n", "1", "--detach")
    ended = tree.run("rerun", first["run"], "--recover", "-o", "json")
    assert ended.returncode == 1
    assert "is not over" in json.loads(ended.stderr)["message"]
    shown(tree, "abort", "run", first["run"])
    assert tree.run("rerun", "nobody").returncode == 4
    ended = tree.run("rerun", first["run"], "--recover", "--action-name", "a1")
    assert ended.returncode == 2
    ended = tree.run("rerun", first["run"], "--nn", "3")
    assert (ended.returncode, "--n" in ended.stderr) == (2, True)


def test_what_is_remote_is_read_by_any_process(tree: DevTree) -> None:
    first = shown(tree, "run", "shop.py", "talks", "--n", "4")
    body = f"""
run = flyte.remote.Run.get({first["run"]!r})
action = flyte.remote.Action.get(run_name=run.name, name="a1")
code = run.download_code("code")
print(json.dumps([
    run.phase, run.outputs().o0, dict(run.inputs()), list(run.get_logs()),
    list(action.get_logs()), action.done(), sorted(path.name for path in code.iterdir()),
    [each.name for each in flyte.remote.Run.listall(task_name="shop.talks")],
]))
"""
    found = script(tree, body)
    assert found[:6] == ["succeeded", 4, {"n": 4}, ["talks to 4"], [], True]
    assert "shop.py" in found[6]
    assert found[7] == [first["run"]]
    listed = shown(tree, "get", "run", "--task-name", "shop.talks", "--in-phase", "succeeded")
    assert [each["id"] for each in listed] == [first["run"]]
    assert shown(tree, "get", "run", "--with-label", "no=such") == []
    assert tree.run("get", "run", "--in-phase", "done").returncode == 2


def test_the_log_of_all_of_it_keeps_every_invariant(tree: DevTree) -> None:
    assert shown(tree, "audit", "--all")["violations"] == []


def wait_until(reached: Any, deadline_s: float = 30.0) -> None:
    end_s = time.monotonic() + deadline_s
    while not reached():
        assert time.monotonic() < end_s
        time.sleep(0.05)
