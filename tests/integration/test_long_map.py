"""A long map on a cluster: what is shown of it, and what recovering it takes over."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dev_tree import DevTree, dev_tree

FLOW = '''
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("maps")


@env.task
async def tenth(n: int, again: str) -> int:
    if n % 500 == 77:
        if not Path(again).exists():
            raise ValueError(f"not yet {n}")
    with Path(again).with_name("ran.txt").open("a") as file:
        file.write(f"{n}\\n")
    return n * 10


@env.task
async def over(count: int, again: str) -> int:
    """Map over so many items that they share actions; fail with the failures."""
    total = 0
    failed = 0
    async for result in millstream.map.aio(tenth, range(count), [again] * count):
        if isinstance(result, int):
            total += result
        else:
            failed += 1
    if failed:
        raise RuntimeError(f"{failed} failed")
    return total
'''
COUNT = 1_400


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[DevTree]:
    with dev_tree(tmp_path, "--slots", "2", "--workers", "2") as made:
        (tmp_path / "maps.py").write_text(FLOW)
        yield made


def shown(tree: DevTree, *command: str) -> Any:
    ended = tree.run(*command, "-o", "json")
    assert ended.stdout, ended.stderr
    return json.loads(ended.stdout)


def test_a_long_map_is_shown_by_its_counts_and_a_recovery_runs_its_failures_alone(
    tree: DevTree,
) -> None:
    mark = tree.folder / "again"
    given = ("--count", str(COUNT), "--again", str(mark))
    failed = shown(tree, "run", "maps.py", "over", *given)
    assert failed["phase"] == "FAILED"
    assert failed["error"]["message"] == "3 failed"
    run = shown(tree, "get", "run", failed["run"])
    counts = {"total": COUNT, "succeeded": COUNT - 3, "failed": 3, "ended": f"{COUNT}/{COUNT}"}
    assert run["items"] == counts
    actions = shown(tree, "get", "action", failed["run"])
    maps = [action for action in actions if action["kind"] == "map"]
    assert len(maps) == len(actions) - 1 < COUNT // 10
    assert maps[0]["task"] == "maps.tenth"
    assert maps[0]["items"]["ended"] == "64/64"
    io = shown(tree, "get", "io", failed["run"], maps[0]["name"])
    assert io["inputs"]["items"] == 64
    assert io["inputs"]["content"][7]["content"]["n"] == 7
    assert io["outputs"]["content"][7]["content"] == 70

    (tree.folder / "ran.txt").unlink()
    mark.touch()
    recovered = shown(tree, "rerun", failed["run"], "--recover")
    assert recovered["phase"] == "SUCCEEDED", recovered
    assert recovered["outputs"] == [10 * sum(range(COUNT))]
    ran = (tree.folder / "ran.txt").read_text().split()
    assert sorted(map(int, ran)) == [77, 577, 1077]
    audit = tree.run("audit", "--all", "-o", "json")
    assert json.loads(audit.stdout)["violations"] == []
