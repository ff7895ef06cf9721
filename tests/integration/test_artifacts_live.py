"""Artifacts on a running cluster: the command line, triggers, and a scheduler that is killed."""

import asyncio
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from dev_tree import MILLSTREAM, DevTree, dev_tree, whole_log

from millstream_events.audit import audit
from millstream_events.fold import fold_entry
from millstream_events.state import ShardState

FLOW = """
from datetime import datetime
import millstream as flyte
from millstream import artifacts
from millstream.io import File
from millstream.remote import Artifact

env = flyte.TaskEnvironment("shop")

@env.task(produces_artifacts=True)
async def make(word: str) -> File:
    file = File.new_remote("word.txt")
    async with file.open("wb") as fh:
        await fh.write(word.encode())
    return artifacts.new(file, artifacts.Metadata(name="words", attrs={"word": word}))

@env.task
async def make_many(count: int) -> int:
    for number in range(count):
        await make(f"many-{number}")
    return count

arrived = flyte.Trigger(
    "arrived", flyte.OnArtifact("words"), inputs={"file": flyte.TriggeredArtifact}
)
sliced = flyte.Trigger(
    "sliced",
    flyte.OnArtifact("events", region="eu"),
    inputs={"day": flyte.TriggeredPartition("date"), "region": flyte.TriggeredPartition("region")},
)

@env.task(triggers=arrived)
async def use(file: File, times: int = 1) -> str:
    async with file.open("rb") as fh:
        return bytes(await fh.read()).decode() * times

@env.task(triggers=sliced)
async def note(day: datetime, region: str) -> list[str]:
    return [day.isoformat(), region]
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    folder = tmp_path_factory.mktemp("artifacts")
    (folder / "shop.py").write_text(FLOW)
    (folder / "word.txt").write_text("before")
    with dev_tree(folder, "--slots", "4", "--workers", "1") as made:
        yield made


def json_of(tree: DevTree, *arguments: str) -> Any:
    ended = tree.run(*arguments, "-o", "json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def runs_of(tree: DevTree, task: str, count: int) -> list[Any]:
    """Wait until so many runs of a task are over, and return all that there are."""
    deadline_s = time.monotonic() + 60
    while True:
        found = json_of(tree, "get", "run", "--task-name", task)
        if len(found) >= count and all(run["phase"] == "SUCCEEDED" for run in found):
            return list(found)
        assert time.monotonic() < deadline_s, found


def folded(tree: DevTree) -> ShardState:
    """Return what the log says."""

    async def body() -> ShardState:
        state = ShardState("lo00")
        async with tree.connected() as connection:
            for entry in await whole_log(connection):
                fold_entry(state, entry)
        return state

    return asyncio.run(body())


def test_a_file_is_published_and_shown_by_the_command_line(tree: DevTree) -> None:
    made = json_of(
        tree, "create", "artifact", "words", "--from-file", "word.txt", "--kind", "data",
        "--attr", "word=before",
    )  # fmt: skip
    (row,) = json_of(tree, "get", "artifact")
    assert (row["name"], row["versions"], row["latest_version"]) == ("words", 1, made["version"])
    shown = json_of(tree, "get", "artifact", "words", "--version", made["version"])
    assert shown == {**made, "consumers": []}
    missing = tree.run("get", "artifact", "word")
    assert missing.returncode == 4
    assert "Did you mean 'words'?" in missing.stderr
    taken = tree.run(
        "create", "artifact", "words", "--from-file", "shop.py", "--version", made["version"]
    )
    assert taken.returncode != 0
    assert "with other content" in taken.stderr


def test_what_a_run_makes_names_the_run_and_starts_the_run_of_a_trigger(tree: DevTree) -> None:
    json_of(tree, "deploy", "shop.py", "env", "--version", "v1")
    shown = json_of(tree, "get", "trigger", "shop.use", "arrived")
    assert shown["automation"] == "Artifact Trigger: on new version of words"
    made = json_of(tree, "run", "shop.py", "make", "--word", "first")
    (started,) = runs_of(tree, "shop.use", 1)
    shown = json_of(tree, "get", "io", started["id"])
    assert "first" in json.dumps(shown["outputs"])
    version = json_of(tree, "get", "artifact", "words", "latest")
    assert (version["run"], version["action"]) == (made["run"], "a0")
    assert version["consumers"] == [started["id"]]
    assert [each["run"] for each in json_of(tree, "get", "artifact", "words")] == [
        made["run"], None,
    ]  # fmt: skip


def test_partitions_choose_what_fires_and_become_inputs(tree: DevTree) -> None:
    for region in ("us", "eu"):
        json_of(
            tree, "create", "artifact", "events", "--from-file", "word.txt",
            "--partition", "date=2026-08-01", "--partition", f"region={region}",
        )  # fmt: skip
    (started,) = runs_of(tree, "shop.note", 1)
    shown = json_of(tree, "get", "io", started["id"])
    assert all(text in json.dumps(shown["outputs"]) for text in ("2026-08-01T00:00", "eu"))
    one = json_of(tree, "get", "artifact", "events", "--partition", "region=eu")
    assert one["consumers"] == [started["id"]]
    both = json_of(
        tree, "get", "artifact", "events", "--partition", "date=2026-07-01..2026-09-01",
        "--latest-per-partition",
    )  # fmt: skip
    assert sorted(each["partitions"]["region"] for each in both) == ["eu", "us"]


def test_each_version_starts_one_run_while_schedulers_are_killed(tree: DevTree) -> None:
    count, before = 8, len(json_of(tree, "get", "run", "--task-name", "shop.use"))
    making = subprocess.Popen(
        [MILLSTREAM, "run", "shop.py", "make_many", "--count", str(count), "-o", "json"],
        cwd=tree.folder, env=tree.environ(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with making:
        for _ in range(3):
            known = folded(tree).artifact_versions
            tree.kill("scheduler")
            deadline_s = time.monotonic() + 60
            while making.poll() is None and folded(tree).artifact_versions == known:
                assert time.monotonic() < deadline_s
        out, _ = making.communicate(timeout=60)
    assert json.loads(out)["outputs"] == [count]
    runs_of(tree, "shop.use", before + count)
    state = folded(tree)
    started = Counter(
        run.fired.version
        for run in state.runs.values()
        if run.fired is not None and run.fired.artifact == "words"
    )
    (line,) = (line for key, line in state.artifacts.items() if key.endswith("words"))
    # All but the one that was there before the trigger was deployed, each once.
    made_by_runs = [each.version for each in line.versions.values() if each.run]
    assert started == Counter(made_by_runs)
    assert len(made_by_runs) == before + count
    assert (state.firings, state.unpublished) == ({}, {})


def test_the_log_of_it_all_keeps_every_invariant(tree: DevTree) -> None:
    async def body() -> None:
        async with tree.connected() as connection:
            report = audit(await whole_log(connection), quiescent=True)
        assert report.violations == ()

    asyncio.run(body())
