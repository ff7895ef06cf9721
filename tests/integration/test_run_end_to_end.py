"""User programs against a whole cluster: nats-server, scheduler, agent and workers."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from foreground import hear_ctrl_c
from wakeups import needs_counts, wakeups

from millstream._cluster import ensure_cluster, find_cluster
from millstream._cluster_files import read_ready

#: For anything that a program here does; the machine may be busy.
DEADLINE_S = 60

FLOW = """
import asyncio
import os

import millstream as flyte

env = flyte.TaskEnvironment("flow")


class Refused(Exception):
    def __init__(self, amount: int, why: str) -> None:
        super().__init__(f"{why}: {amount}")
        self.amount = amount


@env.task
async def add(a: int, b: int = 2) -> int:
    return a + b


@env.task
async def total(n: int) -> int:
    return sum(await asyncio.gather(*(add(i) for i in range(n))))


@env.task
def pair(text: str) -> tuple[str, int]:
    return text.upper(), len(text)


@env.task
async def refuse(amount: int) -> None:
    raise Refused(amount, "too much")


@env.task
async def forever() -> None:
    await asyncio.sleep(3600)


@env.task
async def variable(name: str) -> str:
    return os.environ.get(name, "")
"""

HEAD = "import json, sys\nimport millstream as flyte\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "millstream.toml").write_text("slots = 2\nworkers = 2\n")
    (folder / "flow.py").write_text(FLOW)
    return folder


@pytest.fixture(scope="module")
def cluster(project: Path) -> Iterator[Path]:
    handle = asyncio.run(ensure_cluster(project, slots=2, workers=2))
    yield project
    asyncio.run(handle.close())


def start(project: Path, *argv: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *argv], cwd=project, text=True,
        preexec_fn=hear_ctrl_c,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def answer(project: Path, *argv: str) -> Any:
    program = start(project, *argv)
    out, err = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def script(project: Path, name: str, body: str) -> str:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    (project / name).write_text(f"{HEAD}import flow\n\nif __name__ == '__main__':\n{lines}\n")
    return name


@pytest.mark.parametrize("way", ["script", "module", "module of a package", "no file"])
def test_a_program_runs_its_own_tasks_whichever_way_it_is_started(cluster: Path, way: str):
    own = (
        f"{HEAD}import flow\nenv = flyte.TaskEnvironment('own')\n"
        "@env.task\nasync def main(n: int) -> int:\n    return 10 * await flow.total(n)\n"
        "if __name__ == '__main__':\n"
        "    run = flyte.run(main, 3)\n    run.wait()\n"
        "    print(json.dumps([*run.outputs(), run.phase]))\n"
    )
    (cluster / "own_main.py").write_text(own)
    (cluster / "package").mkdir(exist_ok=True)
    (cluster / "package" / "own.py").write_text(own.replace("import flow", "from . import flow"))
    (cluster / "package" / "flow.py").write_text(FLOW)
    argv = {
        "script": ["own_main.py"],
        "module": ["-m", "own_main"],
        "module of a package": ["-m", "package.own"],
        "no file": ["-c", own],
    }[way]
    assert answer(cluster, *argv) == [90, "succeeded"]


def test_several_outputs_and_large_values_come_back_as_they_were(cluster: Path):
    body = """
text = "x" * 300_000
run = flyte.run(flow.pair, text)
upper, size = run.outputs()
print(json.dumps([upper == text.upper(), size, run.outputs().named_outputs["o1"]]))
"""
    assert answer(cluster, script(cluster, "large.py", body)) == [True, 300_000, 300_000]


def test_a_failure_is_raised_by_outputs_with_its_own_class_and_not_by_wait(cluster: Path):
    body = """
run = flyte.run(flow.refuse, 7)
run.wait()
try:
    run.outputs()
except flow.Refused as exc:
    found = [run.phase, exc.amount, str(exc), isinstance(exc, flyte.errors.RuntimeUserError)]
try:
    run.raise_for_status()
except flow.Refused:
    found.append("raised")
print(json.dumps(found))
"""
    assert answer(cluster, script(cluster, "fails.py", body)) == [
        "failed", 7, "too much: 7", True, "raised",
    ]  # fmt: skip


def test_a_name_is_one_run_for_the_same_request_and_refused_for_another(cluster: Path):
    body = """
context = flyte.with_runcontext(name="once", env_vars={"COLOUR": "red"})
first = context.run(flow.variable, "COLOUR")
again = context.run(flow.variable, "COLOUR")
try:
    context.run(flow.variable, "SHAPE")
except flyte.errors.RejectedError as exc:
    code = exc.reason_code
print(json.dumps([first.id == again.id, again.outputs(), code, again.name]))
"""
    name = script(cluster, "named.py", body)
    assert answer(cluster, name) == [True, ["red"], "name-taken", "once"]
    body = """
run = flyte.remote.Run.get("once")
names = [listed.name for listed in flyte.remote.Run.listall(task_name="flow.variable")]
actions = [[a.name, a.task_name, a.phase] for a in flyte.remote.Action.listall(run.id)]
print(json.dumps([run.phase, run.done(), run.outputs(), names, actions]))
"""
    assert answer(cluster, script(cluster, "later.py", body)) == [
        "succeeded", True, ["red"], ["once"], [["a0", "flow.variable", "succeeded"]],
    ]  # fmt: skip


def test_an_aborted_run_raises_what_a_parent_would_get(cluster: Path):
    body = """
run = flyte.run(flow.forever)
run.wait(wait_for="running")
before = [run.phase, run.done()]
try:
    run.raise_for_status()
except flyte.errors.RuntimeUserError as exc:
    before.append(exc.code)
run.abort("enough")
run.wait()
try:
    run.outputs()
except flyte.errors.ActionAbortedError:
    print(json.dumps([*before, run.phase]))
"""
    name = script(cluster, "aborts.py", body)
    assert answer(cluster, name) == ["running", False, "RunNotDoneError", "aborted"]


def test_the_deadline_of_a_run_ends_it_timed_out(cluster: Path):
    body = """
run = flyte.with_runcontext(deadline=1).run(flow.forever)
run.wait()
print(json.dumps(run.phase))
"""
    assert answer(cluster, script(cluster, "deadline.py", body)) == "timed_out"


def test_everything_can_be_awaited_on_a_loop_of_the_users_own(cluster: Path):
    body = """
import asyncio
async def main():
    runs = await asyncio.gather(*(flyte.run.aio(flow.add, n) for n in range(20)))
    await runs[0].wait.aio()
    seen = [view["phase"] async for view in runs[0].views.aio()]
    return [sum([(await run.outputs.aio())[0] for run in runs]), seen[-1]]
print(json.dumps(asyncio.run(main())))
"""
    assert answer(cluster, script(cluster, "aio.py", body)) == [230, "SUCCEEDED"]


def test_ctrl_c_ends_the_waiting_and_not_the_run(cluster: Path):
    body = """
run = flyte.run(flow.forever)
try:
    print(run.id, flush=True)
    run.wait()
except KeyboardInterrupt:
    phase = run.phase
    run.abort()
    run.wait()
    print(json.dumps([phase, run.phase]))
"""
    program = start(cluster, script(cluster, "waits.py", body))
    assert program.stdout is not None
    assert program.stdout.readline().startswith("lo00-")
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 0, err
    phase, last = json.loads(out)
    assert phase in ("queued", "running")
    assert last == "aborted"


@pytest.mark.alone
@needs_counts
def test_a_cluster_that_has_nothing_to_do_sleeps(cluster: Path):
    # It has started, and done something, before it has nothing to do.
    body = "print(json.dumps([*flyte.run(flow.add, 1).outputs()]))"
    assert answer(cluster, script(cluster, "before.py", body)) == [3]
    ready = read_ready(cluster / ".millstream" / "ready.json")
    assert ready is not None
    parts = (ready.pids.scheduler, ready.pids.agent)
    time.sleep(2)  # What parks is reported after a second.
    before = [wakeups(pid) for pid in parts]
    time.sleep(3)
    scheduler, agent = (wakeups(pid) - b for pid, b in zip(parts, before, strict=True))
    assert scheduler <= 15, "five times a second"
    assert agent <= 11


def test_a_program_in_a_folder_of_its_own_starts_a_cluster_and_ends_it(tmp_path: Path):
    (tmp_path / "millstream.toml").write_text("slots = 1\nworkers = 1\n")
    (tmp_path / "flow.py").write_text(FLOW)
    body = "print(json.dumps([*flyte.run(flow.add, 1).outputs()]))"
    assert answer(tmp_path, script(tmp_path, "alone.py", body)) == [3]
    assert asyncio.run(find_cluster(tmp_path)) is None
    deadline_s = time.monotonic() + DEADLINE_S
    while _processes_of(tmp_path):
        assert time.monotonic() < deadline_s, _processes_of(tmp_path)
        time.sleep(0.05)


def _processes_of(folder: Path) -> list[int]:
    """Return the processes that were started with a file of `folder` on their command line."""
    found: list[int] = []
    for entry in Path("/proc").iterdir() if Path("/proc").exists() else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in line:
                found.append(int(entry.name))
    return found
