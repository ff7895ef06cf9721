"""Caching across runs, restarts and lost blobs, on a real cluster; and the same in local mode."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dev_tree import DevTree, assert_audit_is_clean, dev_tree, fold_all, whole_log

from millstream_events.subjects import blob_stream, blob_subject
from millstream_events.values import Blob

#: Prints one JSON object for each run that it is asked for; an argument is `key=value ...`.
PROGRAM = """
import json
import os
import sys
import uuid

import millstream

env = millstream.TaskEnvironment("cached")


@env.task(cache="auto")
async def token(seed: str) -> str:
    return uuid.uuid4().hex


@env.task(cache="auto")
async def noise(seed: str) -> bytes:
    return os.urandom(50_000)


@env.task
async def main(seed: str) -> str:
    return await token(seed)


@env.task(cache="auto")
async def cached_main(seed: str) -> str:
    return await token(seed)


def ask(spec: str) -> dict:
    options = dict(part.split("=") for part in spec.split())
    task = globals()[options.pop("task", "main")]
    given = {k: v == "True" if v in ("True", "False") else v for k, v in options.items()}
    run = millstream.with_runcontext(**given).run(task, "s")
    value = repr(run.result())[:60]
    local = given.get("mode") == "local"
    actions = [] if local else list(millstream.remote.Action.listall(for_run_name=run.id))
    return {
        "run": run.id,
        "value": value,
        "cache": [action.details().view["cache"] for action in actions],
        "source": [action.details().view["source"] for action in actions],
    }


if __name__ == "__main__":
    for spec in sys.argv[1:]:
        print(json.dumps(ask(spec)), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cache")
    (made / "program.py").write_text(PROGRAM)
    return made


@pytest.fixture(scope="module")
def tree(folder: Path) -> Iterator[DevTree]:
    with dev_tree(folder, "--slots", "2", "--workers", "1") as made:
        yield made


def ask(tree: DevTree, *specs: str) -> list[dict[str, Any]]:
    ended = subprocess.run(
        [sys.executable, "program.py", *specs],
        cwd=tree.folder, env=tree.environ(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_run_options_hold_for_every_action_and_local_mode_does_the_same(tree: DevTree) -> None:
    specs = (
        "", "", "overwrite_cache=True", "", "disable_run_cache=True", "",
        "task=cached_main", "task=cached_main", "task=cached_main overwrite_cache=True",
    )  # fmt: skip
    for mode in ("remote", "local"):
        found = ask(tree, *(f"mode={mode} project={mode} {spec}" for spec in specs))
        values = [each["value"] for each in found]
        assert values[0] == values[1], mode
        assert len({values[0], values[2], values[4]}) == 3
        assert values[3] == values[2]  # What was written over is what counts from then on.
        assert values[5] == values[2]  # Nothing was stored by the run without a cache.
        assert values[6] == values[7] == values[2]
        assert values[8] != values[2]
        if mode == "remote":
            assert_shown(found)


def assert_shown(found: list[dict[str, Any]]) -> None:
    assert [each["cache"] for each in found[:5]] == [
        ["disabled", "miss"],
        ["disabled", "hit"],
        ["disabled", "override"],
        ["disabled", "hit"],
        ["disabled", "disabled"],
    ]
    assert found[7]["cache"] == ["hit"]
    assert found[8]["cache"] == ["override", "override"]
    source = found[1]["source"][1]
    assert (source["run"], source["action"]) == (found[0]["run"], 1)


def test_a_scope_keeps_to_the_project_and_domain(tree: DevTree) -> None:
    scope = "cache_lookup_scope=project-domain"
    red, blue, own, again = ask(
        tree,
        "project=red task=cached_main overwrite_cache=True",
        f"project=blue task=cached_main {scope}",
        f"project=red task=cached_main {scope}",
        "project=green task=cached_main",
    )
    assert blue["value"] != red["value"] == own["value"]
    assert again["value"] == blue["value"]  # The newest of all projects.


async def test_a_result_whose_blob_is_gone_is_computed_anew(tree: DevTree) -> None:
    first, again = ask(tree, "task=noise", "task=noise")
    assert first["value"] == again["value"]
    async with tree.connected() as connection:
        run = fold_all(await whole_log(connection)).runs[first["run"]]
        assert isinstance(run.output, Blob)
        subject = blob_subject(tree.ready().endpoint.namespace, run.output.digest.hex(), "*")
        await connection._wire.request(
            f"$JS.API.STREAM.PURGE.{blob_stream()}",
            json.dumps({"filter": subject}).encode(),
            deadline_s=10,
        )
        # The leader's last look may count for a minute: a new leader has not looked.
        tree.kill("scheduler")
        anew, stored = ask(tree, "task=noise", "task=noise")
        assert anew["value"] != first["value"]
        assert stored["value"] == anew["value"]
        assert_audit_is_clean(await whole_log(connection))


def test_results_outlive_the_cluster_that_computed_them(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    found = []
    for _ in range(2):
        with dev_tree(tmp_path, "--slots", "1", "--workers", "1") as tree:
            found += ask(tree, "task=cached_main", "task=noise")
    assert found[0]["value"] == found[2]["value"]
    assert found[1]["value"] == found[3]["value"]
    assert found[2]["cache"] == found[3]["cache"] == ["hit"]
