"""Environments of tasks on a real cluster: resources, secrets in every output, builds."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from dev_tree import DevTree, dev_tree

SECRET = "s3cr3t-of-the-test"
FLOW = """
import asyncio, os, sys, time
import millstream
from millstream import Image, Resources, ReusePolicy, Secret

env = millstream.TaskEnvironment("needs")
told = millstream.TaskEnvironment("told", secrets="live-key")
image = Image.from_debian_base().with_pip_packages("toolz==1.0.0")
rendered = millstream.TaskEnvironment("rendered", image=image)
TRAIL = os.environ.get("TRAIL", "trail")

def mark(text):
    with open(TRAIL, "a") as file:
        file.write(f"{text} {time.time()}\\n")

@env.task(resources=Resources(memory="64Gi"))
async def huge() -> int:
    return 1

@env.task(resources=Resources(gpu="A100:1"))
async def wrong_device() -> int:
    return 1

@env.task(resources=Resources(memory=("600Mi", "600Mi")))
async def large(n: int) -> int:
    mark(f"begin{n}")
    await asyncio.sleep(0.3)
    mark(f"end{n}")
    return n

@env.task
async def both() -> list[int]:
    return await asyncio.gather(large(1), large(2))

@told.task
def speaks() -> str:
    secret = os.environ["LIVE_KEY"]
    print("python says", secret)
    os.system("echo shell says $LIVE_KEY")
    os.write(2, f"native {secret}\\n".encode())
    sys.stdout.write(secret[:4])
    sys.stdout.write(secret[4:] + "\\n")
    raise ValueError(secret)

@rendered.task
async def which() -> list[str]:
    import toolz
    return [toolz.__version__, str(os.getppid())]
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    folder = tmp_path_factory.mktemp("needs")
    (folder / "needs.py").write_text(FLOW)
    options = ("--slots", "4", "--workers", "2", "--memory", "1Gi", "--gpu", "T4:1")
    with dev_tree(folder, *options) as made:
        yield made


def run(tree: DevTree, task: str, *options: str) -> Any:
    ended = tree.run("run", "needs.py", task, *options, "-o", "json")
    return json.loads(ended.stdout)


def action(tree: DevTree, run_id: str) -> Any:
    return json.loads(tree.run("get", "action", run_id, "-o", "jsonl").stdout.splitlines()[0])


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("huge", "needs 64Gi of memory, the largest agent has 1Gi"),
        ("wrong_device", "needs 1 A100 of GPU, the largest agent has 0 of them"),
    ],
)
def test_what_fits_no_agent_is_held_with_the_reason_shown(
    tree: DevTree, task: str, reason: str
) -> None:
    run_id = run(tree, task, "--detach")["run"]
    deadline_s = time.monotonic() + 15
    while action(tree, run_id)["phase"] != "WAITING_FOR_RESOURCES":
        assert time.monotonic() < deadline_s
    assert reason in tree.run("get", "action", run_id, "-o", "json").stdout
    assert tree.run("abort", "run", run_id).returncode == 0


def test_memory_of_running_attempts_is_not_given_twice(tree: DevTree) -> None:
    assert run(tree, "both")["outputs"] == [[1, 2]]
    marks = {name: float(at) for name, at in map(str.split, tree.trail.read_text().splitlines())}
    first, second = sorted((1, 2), key=lambda n: marks[f"begin{n}"])
    assert marks[f"end{first}"] <= marks[f"begin{second}"]


def test_a_secret_is_stars_in_every_output(tree: DevTree) -> None:
    made = tree.run("create", "secret", "live-key", "--value", SECRET, "-o", "json")
    assert json.loads(made.stdout)["name"] == "live-key"
    shown = tree.run("get", "secret", "-o", "jsonl").stdout
    assert ("live-key" in shown, SECRET in shown) == (True, False)
    ended = tree.run("run", "needs.py", "speaks", "-o", "json")
    run_id = json.loads(ended.stdout)["run"]
    logs = tree.run("get", "logs", run_id).stdout
    for line in ("python says ***", "shell says ***", "native ***"):
        assert line in logs
    outputs = [ended.stdout, ended.stderr, logs]
    for noun in ("action", "event", "io", "run"):
        outputs.append(tree.run("get", noun, run_id, "-o", "json").stdout)
    files = [path for path in (tree.folder / ".millstream").rglob("*") if path.is_file()]
    assert files
    named = [path.name for path in files if SECRET.encode() in path.read_bytes()]
    assert (SECRET in "".join(outputs), named) == (False, ["secrets.toml"])
    assert tree.run("delete", "secret", "live-key").returncode == 0
    missing = run(tree, "speaks")
    assert missing["error"]["type"] == "SecretNotFoundError"


def test_a_build_is_told_in_the_logs_and_outlives_its_agent(tree: DevTree) -> None:
    first = run(tree, "which")
    assert first["outputs"][0][0] == "1.0.0"
    logs = tree.run("get", "logs", first["run"]).stdout
    assert "+ toolz==1.0.0" in logs
    again = run(tree, "which")
    assert again["outputs"][0][1] == first["outputs"][0][1], "forked from the same template"
    tree.kill("agent")
    third = run(tree, "which")
    assert third["outputs"][0][0] == "1.0.0"
    assert "toolz" not in tree.run("get", "logs", third["run"]).stdout
