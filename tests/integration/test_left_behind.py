"""What a run knows and leaves behind, on a whole cluster: options, reports, notes, findings."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from web_inbox import Inbox

import millstream
from millstream._cluster import ensure_cluster
from millstream_events.errors import RejectedError

DEADLINE_S = 60

FLOW = """
import asyncio
import os
import sys

import millstream as flyte

env = flyte.TaskEnvironment("behind")


class Board:
    name = "board"
    icon_uri = "https://board.example/icon.svg"

    def get_link(self, run_name, action_name, pod_name, context, **others):
        return f"https://board.example/{run_name}/{action_name}?team={context.get('team')}"


@env.task(links=(Board(),))
async def leaf() -> dict[str, str]:
    flyte.logger.debug("a detail")
    ctx = flyte.ctx()
    return {
        "zone": os.environ.get("ZONE", ""),
        "team": flyte.get_custom_context().get("team", ""),
        "version": ctx.version,
        "started": ctx.run_start_time.isoformat(),
        "cache": str(ctx.disable_run_cache),
        "base": ctx.run_base_dir,
    }


@env.task
async def middle() -> dict[str, str]:
    return await leaf()


@env.task
async def main() -> dict[str, str]:
    return await middle()


@env.task(cache="auto")
async def costly(n: int) -> float:
    return await flyte.durable.random.aio()


@env.task
async def twice(n: int) -> float:
    return await costly(n)


@env.task(report=True, retries=1)
async def writer(door: str) -> int:
    attempt = flyte.ctx().attempt_number
    await flyte.report.replace.aio(f"<h1>attempt {attempt}</h1>", do_flush=True)
    while not os.path.exists(door):
        await asyncio.sleep(0.02)
    flyte.report.log(f"<script>{'x' * 20_000}</script>")
    if attempt == 0:
        raise OSError("again")
    return attempt


@env.task
async def number(n: int) -> int:
    return n


@env.task(retries=1)
async def wavers() -> int:
    attempt = flyte.ctx().attempt_number
    found = await number(attempt)
    if attempt == 0:
        raise OSError("again")
    return found


if __name__ == "__main__":
    with flyte.custom_context(team="blue"):
        run = flyte.run(main)
    print(run.result()["team"], flyte.get_custom_context())
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("behind")
    (folder / "millstream.toml").write_text("slots = 2\nworkers = 2\n")
    (folder / "behind.py").write_text(FLOW)
    handle = asyncio.run(ensure_cluster(folder, slots=2, workers=2))
    yield folder
    asyncio.run(handle.close())


@pytest.fixture(scope="module")
def flow(project: Path) -> Iterator[Any]:
    """The program as a module of this process, which is the cluster's client."""
    here = Path.cwd()
    os.chdir(project)
    sys.path.insert(0, str(project))
    millstream.init(root_dir=project)
    try:
        import behind

        yield behind
    finally:
        millstream.shutdown()
        sys.path.remove(str(project))
        os.chdir(here)


def command(project: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "millstream.cli", *argv],
        cwd=project, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def until(look: Any) -> Any:
    """Return the first answer of `look` that is not None."""
    end = time.monotonic() + DEADLINE_S
    while (found := look()) is None:
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


def report_or_none(run: Any, attempt: int | None = None) -> str | None:
    try:
        return run.get_report(attempt=attempt)
    except RuntimeError:
        return None


def test_what_a_run_is_started_with_reaches_every_action(flow: Any, project: Path):
    run = millstream.with_runcontext(
        env_vars={"ZONE": "north"},
        custom_context={"team": "red"},
        version="v7",
        run_base_dir="s3://bucket/runs",
        run_start_time=datetime(2026, 1, 2, tzinfo=UTC),
        disable_run_cache=True,
        annotations={"why": "a test"},
        labels={"team": "red"},
        user_log_level=10,
    ).run(flow.main)
    assert run.result() == {
        "zone": "north",
        "team": "red",
        "version": "v7",
        "started": "2026-01-02T00:00:00+00:00",
        "cache": "True",
        "base": "s3://bucket/runs",
    }
    assert run.details().view["annotations"] == {"why": "a test"}
    shown = json.loads(command(project, "get", "action", run.id, "a2", "-o", "json").stdout)
    name = shown["action_name"]
    assert millstream.remote.Action.get(run_name=run.id, name=name).name == "a2"
    assert shown["context"] == {"team": "red"}
    assert shown["links"] == [
        {
            "name": "board",
            "uri": f"https://board.example/{run.id}/{name}?team=red",
            "icon_uri": "https://board.example/icon.svg",
        }
    ]
    line = until(lambda: command(project, "get", "logs", run.id, name).stdout or None)
    assert f"[{run.id}][{name}] DEBUG a detail" in line


def test_a_block_around_the_start_of_a_run_holds_for_the_run_alone(project: Path):
    ended = subprocess.run(
        [sys.executable, "behind.py"],
        cwd=project, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout.strip()) == (0, "blue {}"), ended.stderr


def test_cache_options_of_a_run_hold_for_the_actions_below_the_root(flow: Any):
    first = millstream.run(flow.twice, 5).result()
    assert millstream.run(flow.twice, 5).result() == first
    off = millstream.with_runcontext(disable_run_cache=True).run(flow.twice, 5).result()
    assert off != first
    assert millstream.run(flow.twice, 5).result() == first
    over = millstream.with_runcontext(overwrite_cache=True).run(flow.twice, 5).result()
    assert over not in (first, off)
    assert millstream.run(flow.twice, 5).result() == over


def test_a_report_can_be_read_while_its_task_runs_and_each_attempt_has_one(
    flow: Any, project: Path, tmp_path: Path
):
    door = tmp_path / "door"
    run = millstream.run(flow.writer, str(door))
    assert "<h1>attempt 0</h1>" in until(lambda: report_or_none(run))
    assert "<script>" not in run.get_report()
    door.touch()
    assert run.result() == 1
    assert "<h1>attempt 1</h1>" in run.get_report()
    assert "<script>xxx" in run.get_report(attempt=2)
    assert "<h1>attempt 0</h1>" in run.get_report(attempt=1)
    file = tmp_path / "page.html"
    ended = command(project, "get", "report", run.id, "a0", "--to", str(file), "-o", "json")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert file.read_text() == run.get_report()
    shown = command(project, "get", "report", run.id, "--attempt", "1", "-o", "json").stdout
    assert json.loads(shown)["html"] == run.get_report(attempt=1)


def test_an_action_without_a_report_says_how_to_get_one(flow: Any, project: Path):
    run = millstream.run(flow.number, 1)
    run.wait()
    with pytest.raises(RuntimeError, match="report=True"):
        run.get_report()
    ended = command(project, "get", "report", run.id)
    assert (ended.returncode, "report=True" in ended.stderr) == (4, True)


@pytest.mark.parametrize("reaction", ["warn", "fail", "ignore"])
def test_an_attempt_that_takes_another_way_is_found_out(flow: Any, project: Path, reaction: Any):
    run = millstream.with_runcontext(on_divergence=reaction).run(flow.wavers)
    if reaction == "fail":
        with pytest.raises(
            millstream.errors.NonDeterministicError, match=r"behind.number \(a1\).*behind.number"
        ):
            run.result()
    else:
        assert run.result() == 1
    lines = command(project, "get", "event", run.id, "-o", "jsonl").stdout.splitlines()
    found = [event for event in map(json.loads, lines) if event["type"] == "DivergenceDetected"]
    assert [event["policy"] for event in found] == ([] if reaction == "ignore" else [reaction])
    asked = [event for event in map(json.loads, lines) if event["type"] == "ActionRequested"]
    ids = ["", *(event["id"] for event in asked)]
    for event in found:
        assert (event["expected"], event["requested"]) == ([ids[1]], ids[2])


def test_a_run_tells_its_end_though_whoever_started_it_is_gone(project: Path, tmp_path: Path):
    inbox = Inbox()
    door = tmp_path / "door"
    try:
        program = (
            "import millstream as flyte, behind\n"
            "from millstream import notify\n"
            f"hook = notify.Webhook(on_phase='SUCCEEDED', url={inbox.url!r})\n"
            f"run = flyte.with_runcontext(notifications=hook).run(behind.writer, {str(door)!r})\n"
            "print(run.id)\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=project, capture_output=True, text=True, timeout=DEADLINE_S, check=True,
        )  # fmt: skip
        assert not inbox.seen
        door.touch()
        assert inbox.came.wait(DEADLINE_S)
    finally:
        inbox.close()
    assert inbox.seen[0][3]["run"] == ended.stdout.strip()


def test_what_is_not_a_string_is_refused_before_anything_is_sent(flow: Any):
    with pytest.raises(TypeError, match="strings"):
        millstream.with_runcontext(custom_context={"a": 1})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="strings"), millstream.custom_context(a=1):  # type: ignore[arg-type]
        pass
    large = {"a": "x" * 100_000}
    with pytest.raises(RejectedError, match="too-large"):
        millstream.with_runcontext(custom_context=large).run(flow.number, 1).result()


def test_the_log_of_it_all_keeps_every_invariant(flow: Any, project: Path):
    assert flow
    ended = command(project, "audit", "--all", "-o", "json")
    assert (ended.returncode, json.loads(ended.stdout)["violations"]) == (0, [])
