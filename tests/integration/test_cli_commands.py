"""The command line against a real cluster: what is printed, and how each command ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from foreground import hear_ctrl_c

PROGRAM = """
import asyncio
import millstream

env = millstream.TaskEnvironment(name="shop")

@env.task
async def square(x: int) -> int:
    print("squaring", x)
    return x * x

@env.task
async def main(n: int = 3, name: str = "you", fast: bool = False) -> tuple[int, str]:
    total = sum([await square(i) for i in range(n)])
    return total, f"{name} {fast}"

@env.task
async def bad(n: int) -> int:
    raise ValueError(f"no {n}")

@env.task
async def nothing() -> None:
    pass

@env.task
async def alphabet(times: int) -> dict[str, list[str]]:
    return {"letters": ["a"] * times}

@env.task
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)
"""


NIGHTLY = """
from datetime import datetime

import millstream

env = millstream.TaskEnvironment("nightly")


@env.task
async def clean(when: datetime) -> None: ...
"""


class Cli:
    """Runs `millstream` in one project directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = {key: value for key, value in os.environ.items() if "MILLSTREAM" not in key}

    def start(self, *tokens: str, **env: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "millstream.cli", *tokens],
            cwd=self.directory,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            preexec_fn=hear_ctrl_c,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *tokens: str, status: int = 0, **env: str) -> str:
        process = self.start(*tokens, **env)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, f"{process.returncode}\n{out}\n{err}"
        assert "millstream/cli" not in out + err, "a traceback of ours"
        self.err = err
        return out

    def json(self, *tokens: str, status: int = 0) -> Any:
        return json.loads(self(*tokens, "-o", "json", status=status))

    def lines(self, *tokens: str) -> list[Any]:
        return [json.loads(line) for line in self(*tokens, "-o", "jsonl").splitlines()]


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    directory = tmp_path_factory.mktemp("project")
    (directory / "shop_flow.py").write_text(PROGRAM)
    cli = Cli(directory)
    dev = cli.json("dev", "--detach", "--slots", "2")
    yield cli
    end(dev["pids"]["dev"])


def end(pid: int) -> None:
    """Tell a cluster to end, and see that nothing of it is left."""
    process = psutil.Process(pid)
    processes = [process, *process.children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive, alive


@pytest.fixture(scope="module")
def done(cli: Cli) -> Any:
    """A run that succeeded."""
    return cli.json("run", "shop_flow.py", "main", "--n", "4", "--name", "Bo", "--fast")


def test_run_prints_one_object_with_the_outputs(done: Any) -> None:
    assert done["phase"] == "SUCCEEDED"
    assert done["outputs"] == [14, "Bo True"]
    assert done["error"] is None
    assert done["duration_ms"] > 0
    assert set(done) >= {"run", "phase", "outputs", "error", "duration_ms", "url"}


def test_a_failed_run_ends_with_5_and_shows_the_users_error(cli: Cli) -> None:
    failed = cli.json("run", "shop_flow.py", "bad", "--n", "7", status=5)
    assert failed["phase"] == "FAILED"
    assert failed["outputs"] == []
    assert (failed["error"]["type"], failed["error"]["message"]) == ("ValueError", "no 7")


def test_results_are_on_stdout_and_everything_else_on_stderr(cli: Cli) -> None:
    assert cli("run", "shop_flow.py", "square", "--x", "5") == "25\n"
    assert "SUCCEEDED" in cli.err


def test_get_run_lists_runs_and_shows_one(cli: Cli, done: Any) -> None:
    listed = cli.json("get", "runs")
    assert done["run"] in [run["id"] for run in listed]
    one = cli.json("get", "run", done["run"])
    assert one["task"] == "shop.main"
    assert one["phase"] == "SUCCEEDED"
    assert one["actions"] == {
        "total": 5,
        "queued": 0,
        "running": 0,
        "succeeded": 5,
        "failed": 0,
        "aborted": 0,
    }
    assert one["created_at"] < one["ended_at"]
    assert done["run"] in cli("get", "run", "-o", "name").split()


def test_get_action_shows_each_action_with_its_attempts(cli: Cli, done: Any) -> None:
    actions = cli.lines("get", "action", done["run"])
    assert [action["ordinal"] for action in actions] == [0, 1, 2, 3, 4]
    assert [action["parent"] for action in actions] == [None, 0, 0, 0, 0]
    assert {action["phase"] for action in actions} == {"SUCCEEDED"}
    assert actions[1]["attempts"][0]["attempt"] == 1
    assert actions[1]["attempts"][0]["pool"] == "default"


def test_get_event_shows_the_log_without_a_gap(cli: Cli, done: Any) -> None:
    events = cli.lines("get", "event", done["run"])
    assert [event["rev"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "RunCreated"
    assert events[-1]["type"] == "RunFinished"
    assert cli.lines("get", "event", done["run"], "--follow") == events


def test_get_io_shows_inputs_and_outputs(cli: Cli, done: Any) -> None:
    io = cli.json("get", "io", done["run"], "a2")
    assert io["inputs"]["content"] == {"x": 1}
    assert io["outputs"]["content"] == 1


def test_get_io_opens_what_is_too_large_for_the_log(cli: Cli) -> None:
    run = cli.json("run", "shop_flow.py", "alphabet", "--times", "10000")["run"]
    outputs = cli.json("get", "io", run)["outputs"]
    assert outputs["content"] == {"letters": ["a"] * 10_000}
    assert len(outputs["digest"]) == 64


def test_get_logs_shows_what_tasks_printed(cli: Cli, done: Any) -> None:
    end_s = time.monotonic() + 10
    while True:
        lines = sorted(cli("get", "logs", done["run"]).splitlines())
        if len(lines) == 4 or time.monotonic() > end_s:
            break
    assert lines == [f"a{i + 1} | squaring {i}" for i in range(4)]
    assert cli("get", "logs", done["run"], "a2") == "a2 | squaring 1\n"


def test_get_logs_shows_the_end_one_attempt_and_the_times(cli: Cli, done: Any) -> None:
    assert cli("get", "logs", done["run"], "a2", "-l", "1") == "a2 | squaring 1\n"
    assert cli("get", "logs", done["run"], "a2", "--attempt", "2") == ""
    stamped = cli("get", "logs", done["run"], "a2", "--show-ts", "-a", "1")
    assert stamped.startswith("20")
    assert stamped.endswith("Z a2 | squaring 1\n")


def test_a_run_is_looked_for_in_the_project_that_is_named(cli: Cli) -> None:
    options = ("-e", "COLOUR=red", "--label", "team=x", "-p", "elsewhere", "--version", "v7")
    run = cli.json("run", *options, "shop_flow.py", "square", "--x", "2", "--name", "here")
    assert cli.json("get", "io", "here", "-p", "elsewhere", "--inputs-only")["run"] == run["run"]
    assert cli.lines("get", "action", "here", "-p", "elsewhere", "--in-phase", "failed") == []
    (found,) = cli.lines("get", "run", "-p", "elsewhere", "--with-label", "team=x")
    assert found["labels"] == {"team": "x"}
    assert "elsewhere" in {row["id"] for row in cli.lines("get", "project")}
    cli("get", "io", "here", status=4)


def test_the_code_of_a_run_is_brought_back(cli: Cli, done: Any, tmp_path: Path) -> None:
    cli("get", "code", done["run"], "--dest", str(tmp_path))
    assert (tmp_path / "shop_flow.py").read_text() == PROGRAM


def test_a_trigger_is_added_to_a_deployed_task(cli: Cli) -> None:
    (cli.directory / "below").mkdir(exist_ok=True)
    (cli.directory / "below" / "nightly_flow.py").write_text(NIGHTLY)
    (cli.directory / "below" / "broken_flow.py").write_text("import nowhere_to_be_found\n")
    cli("deploy", "below", "--recursive", status=1)
    (row,) = cli.json("deploy", "below", "-r", "-i")
    assert row["name"] == "nightly.clean"
    made = cli.json(
        "create", "trigger", "nightly.clean", "often", "--schedule", "*/5 * * * *",
        "--trigger-time-var", "when", "--no-auto-activate",
    )  # fmt: skip
    assert (made["name"], made["active"]) == ("often", False)
    assert "*/5 * * * *" in made["automation"]
    cli("create", "trigger", "nightly.clean", "bad", "--schedule", "61 * * * *", status=2)


def test_settings_and_whoever_asks_are_shown(cli: Cli) -> None:
    names = {row["name"]: row["from"] for row in cli.lines("get", "config")}
    assert names["project"] == "default"
    assert cli.json("whoami")["subject"]


def test_replay_shows_a_run_as_it_was(cli: Cli, done: Any) -> None:
    early = cli.json("replay", done["run"], "--at", "3")
    assert early["phase"] == "RUNNING"
    assert early["rev"] == 3
    late = cli.json("replay", done["run"])
    assert late["phase"] == "SUCCEEDED"
    assert len(late["tree"]) == 5
    assert cli.json("replay", done["run"])["state_hash"] == late["state_hash"]


def test_the_audit_of_a_healthy_log_finds_nothing(cli: Cli, done: Any) -> None:
    report = cli.json("audit", done["run"])
    assert report["runs"] == 1
    assert report["violations"] == []
    assert cli.json("audit", "--all")["violations"] == []


def test_a_detached_run_is_watched_and_aborted(cli: Cli) -> None:
    started = cli.json("run", "shop_flow.py", "nap", "--seconds", "60", "--detach")
    assert started["phase"] in {"QUEUED", "RUNNING"}
    cli("abort", "run", started["run"], "--reason", "enough")
    phases = cli("watch", started["run"], status=5).split()
    assert "ABORTED" in phases
    actions = cli.lines("get", "action", started["run"])
    assert actions[0]["phase"] == "ABORTED"


def test_a_name_is_an_alias_and_a_taken_one_is_refused(cli: Cli) -> None:
    cli("run", "--name", "monday", "shop_flow.py", "square", "--x", "2")
    assert cli.json("get", "run", "monday")["name"] == "monday"
    cli("run", "--name", "monday", "shop_flow.py", "square", "--x", "3", status=1)
    assert "name-taken" in cli.err
    cli("get", "run", "mondya", status=4)
    assert "Did you mean 'monday'" in cli.err


def test_an_action_that_is_not_there_is_not_found(cli: Cli, done: Any) -> None:
    cli("get", "action", done["run"], "a99", status=4)
    cli("abort", "action", done["run"], "first", status=2)


def test_get_cluster_names_leader_agents_and_processes(cli: Cli) -> None:
    cluster = cli.json("get", "cluster")
    assert cluster["durability"] == "interval"
    assert cluster["shards"][0]["shard"] == "lo00"
    assert cluster["shards"][0]["epoch"] >= 1
    assert cluster["agents"][0]["slots"] == 2
    assert cluster["agents"][0]["pool"] == "default"
    pids = cluster["pids"]
    named = [pids["dev"], pids["nats"], pids["scheduler"], pids["agent"], *pids["workers"]]
    assert all(psutil.pid_exists(pid) for pid in named)
    assert pids["workers"]
    assert cluster["console"] is None
    assert cli.json("get", "pool")[0]["pool"] == "default"


def test_doctor_finds_a_healthy_cluster_healthy(cli: Cli) -> None:
    found = {row["check"]: row["verdict"] for row in cli.json("doctor")}
    assert set(found) >= {"server", "jetstream", "durability", "clock", "blobs", "pools", "disk"}
    assert "fail" not in found.values()


def test_ctrl_c_detaches_and_says_how_to_come_back(cli: Cli) -> None:
    process = cli.start("run", "--name", "nap1", "shop_flow.py", "nap", "--seconds", "60")
    end_s = time.monotonic() + 30
    while "nap1" not in cli("get", "run", "-o", "name").split():
        assert time.monotonic() < end_s
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "millstream watch nap1" in err
    assert "millstream abort run nap1" in err
    assert cli.json("get", "run", "nap1")["phase"] in {"QUEUED", "RUNNING"}
    cli("abort", "run", "nap1")


def test_a_client_elsewhere_finds_the_cluster_by_its_url(cli: Cli, tmp_path: Path) -> None:
    url = cli.json("get", "cluster")["nats"]
    (tmp_path / "far_flow.py").write_text(PROGRAM)
    elsewhere = Cli(tmp_path)
    out = elsewhere("run", "far_flow.py", "square", "--x", "6", MILLSTREAM_ENDPOINT=url)
    assert out == "36\n"
    wrong = url.replace("://", "://x")
    elsewhere("get", "run", status=4, MILLSTREAM_ENDPOINT=wrong)


def test_a_second_dev_is_refused_and_a_detached_one_shows_the_first(cli: Cli) -> None:
    cli("dev", status=1)
    assert "is in use by process" in cli.err
    dev = cli.json("dev", "--detach")
    assert dev["pids"]["dev"] == cli.json("get", "cluster")["pids"]["dev"]


def test_parts_started_one_by_one_make_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "shop_flow.py").write_text(PROGRAM)
    cli = Cli(tmp_path)
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = str(trial.getsockname()[1])
    server = cli.start("start", "nats", "--port", port, "-o", "name")
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    parts = [server]
    try:
        parts.append(cli.start("start", "scheduler", "--nats", url, "--node", "one"))
        labels = ("--labels", "gpu=no,rack=7", "--slots", "1")
        parts.append(cli.start("start", "pool", "--name", "east", "--nats", url, *labels))
        out = cli("run", "shop_flow.py", "square", "--x", "4", MILLSTREAM_ENDPOINT=url)
        assert out == "16\n"
        pool = json.loads(cli("get", "pool", "east", "-o", "json", MILLSTREAM_ENDPOINT=url))[0]
        assert (pool["pool"], pool["slots"]) == ("east", 1)
        assert pool["members"][0]["labels"] == {"gpu": "no", "rack": "7"}
    finally:
        for part in reversed(parts):
            part.terminate()
            part.communicate(timeout=20)
    assert server.returncode == 0


def test_without_a_cluster_run_starts_one_and_the_log_stays_readable(tmp_path: Path) -> None:
    (tmp_path / "shop_flow.py").write_text(PROGRAM)
    cli = Cli(tmp_path)
    assert cli("run", "shop_flow.py", "square", "--x", "3") == "9\n"
    runs = cli.json("get", "run")
    assert [run["phase"] for run in runs] == ["SUCCEEDED"]
    assert cli.json("audit", "--quiescent")["violations"] == []
    cli("run", "shop_flow.py", "nap", "--seconds", "1", "--detach", status=7)
    assert "--detach needs one that stays" in cli.err
    assert not (tmp_path / ".millstream" / "ready.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_dev_prints_where_it_is_and_ends_on_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    cli = Cli(tmp_path)
    process = cli.start("dev", "--ephemeral", "-o", "json")
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n") or text.count("{") != text.count("}"):
        line = process.stdout.readline()
        assert line, process.communicate()
        text += line
    dev = json.loads(text)
    assert dev["pids"]["dev"] == process.pid
    assert set(dev) >= {"nats", "console", "token", "data_dir", "pids"}
    tree = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.communicate(timeout=15)
    assert process.returncode == 0
    assert not psutil.wait_procs(tree, timeout=5)[1]
    assert not Path(dev["data_dir"]).exists()


def test_local_mode_runs_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "shop_flow.py").write_text(PROGRAM)
    cli = Cli(tmp_path)
    done = cli.json("run", "shop_flow.py", "main", "--n", "3", "--local")
    assert done["outputs"] == [5, "you False"]
    failed = cli.json("run", "shop_flow.py", "bad", "--n", "3", "--local", status=5)
    assert failed["error"]["type"] == "ValueError"
    assert not (tmp_path / ".millstream").exists()
