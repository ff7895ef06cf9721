"""The same programs three ways: in local mode, on an embedded cluster, and over the command line.

Every file of `programs/` has one idea, a task `main` that needs no parameters, and what it gives
(`EXPECT`) or raises (`RAISES`). With a coroutine `after(run)` it is that one's value which counts;
over the command line another process is given the run by its name.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from dev_tree import DevTree, dev_tree

HERE = Path(__file__).parent
PROGRAMS = sorted(path.stem for path in (HERE / "programs").glob("*.py"))
#: What only processes can give, so that local mode cannot, and why.
NOT_IN_LOCAL_MODE = {
    "attempt_variables": "os.environ belongs to the whole process, which many tasks share",
    "environment_variables": "os.environ belongs to the whole process, which many tasks share",
    "image_env_vars": "local mode runs in the caller's environment, as Flyte's does",
    "image_error": "local mode builds no environment",
    "image_files": "local mode runs in the caller's environment, as Flyte's does",
    "image_packages": "local mode runs in the caller's environment, as Flyte's does",
    "memory_limit": "a limit holds for a process, and the caller's own must not be limited",
    **dict.fromkeys(
        (
            "fork_reuses", "map_long_details", "recover_changed_inputs", "recover_failed",
            "recover_forced", "recover_nested", "recover_twice", "recover_traces", "rerun_again",
            "rerun_changed_inputs", "rerun_one_action", "static_recovered",
        ),
        "earlier runs are kept on a cluster, and as in Flyte only there",
    ),
    "secret_file": "a secret is told to a process of its own, as in Flyte's local mode to none",
    "secret_in_error": "a secret is told to a process of its own",
    "secret_missing": "a secret is told to a process of its own",
    "secret_variable": "a secret is told to a process of its own",
    "worker_aborts": "aborting ends the caller's process: there is no other one",
    "worker_segfaults": "a crash ends the caller's process: there is no other one",
}  # fmt: skip
#: With a coroutine `after(run)`.
WITH_AFTER = tuple(
    name
    for name in PROGRAMS
    if "async def after(" in (HERE / "programs" / f"{name}.py").read_text(encoding="utf-8")
)
#: Of a process that runs many programs.
DEADLINE_S = 120
#: Of a cluster that nobody uses any more.
ENDS_S = 20
#: Of one command.
COMMAND_DEADLINE_S = 60
#: One more than the machine of CI has cores: a command also waits.
COMMANDS_AT_ONCE = 3
#: What most processes of the corpus import.
COMPILED = "millstream.cli.run, millstream.cli.audit, millstream.cli.dev, pandas, polars, pyarrow"

#: It loads both cores; the first test of each way waits for all programs of it.
pytestmark = [pytest.mark.alone, pytest.mark.timeout(1_200)]

Outcomes = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which Python finds bytecode, as in an installation, and writes none.

    Of programs it must write none: it would not see an edit of the same size and second.
    """
    variables = {"PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode"))}
    subprocess.run(
        [sys.executable, "-c", f"import {COMPILED}"],
        env={**os.environ, **variables, "PYTHONDONTWRITEBYTECODE": ""}, check=True,
    )  # fmt: skip
    return {**variables, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, compiled: dict[str, str]) -> DevTree:
    """The corpus in a folder of its own, without a cluster that stays."""
    return DevTree(corpus_in(tmp_path_factory.mktemp("corpus")), compiled)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, compiled: dict[str, str]) -> Iterator[DevTree]:
    """The corpus in another folder, and a cluster there."""
    folder = corpus_in(tmp_path_factory.mktemp("commands"))
    with dev_tree(folder, "--slots", "2", "--workers", "2", variables=compiled) as made:
        yield made


def corpus_in(folder: Path) -> Path:
    for path in (*(HERE / "programs").glob("*.py"), HERE / "driver" / "drive_programs.py"):
        shutil.copy(path, folder)
    secrets = folder / ".millstream" / "secrets.toml"
    secrets.parent.mkdir(mode=0o700)
    secrets.write_text('corpus-key = "k-123-xyz"\n[corpus]\ntoken = "t-4567-abcd"\n')
    secrets.chmod(0o600)
    return folder


def drive(tree: DevTree, way: str, *arguments: str) -> Outcomes:
    """Run the whole corpus in one process, so that a program costs milliseconds."""
    ended = subprocess.run(
        [sys.executable, "drive_programs.py", way, *arguments],
        cwd=tree.folder, env=tree.environ(), capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    found: Outcomes = {}
    for line in ended.stdout.splitlines():
        with contextlib.suppress(ValueError):  # In local mode tasks print here as well.
            outcome = json.loads(line)
            found[outcome["program"]] = outcome
    assert ended.returncode == 0, ended.stderr
    return found


@pytest.fixture(scope="module")
def on_embedded(apart: DevTree) -> Outcomes:
    found = drive(apart, "embedded")
    # It ends with the process that started it, whatever tasks have asked it for.
    deadline_s = time.monotonic() + ENDS_S
    while (ready := apart.ready()) is not None and psutil.pid_exists(ready.pids.dev or 0):
        assert time.monotonic() < deadline_s, ready.pids
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def in_local_mode(apart: DevTree) -> Outcomes:
    return drive(apart, "local", *NOT_IN_LOCAL_MODE)


@pytest.fixture(scope="module")
def over_commands(tree: DevTree) -> Outcomes:
    """What each program's command printed, and its exit code."""
    with ThreadPoolExecutor(COMMANDS_AT_ONCE) as several:
        return dict(zip(PROGRAMS, several.map(partial(command, tree), PROGRAMS), strict=True))


def command(tree: DevTree, program: str) -> dict[str, Any]:
    ended = tree.run("run", f"{program}.py", "main", "-o", "json", deadline_s=COMMAND_DEADLINE_S)
    assert ended.stdout, ended.stderr
    return {**json.loads(ended.stdout), "exit": ended.returncode, "stderr": ended.stderr}


@pytest.fixture(scope="module")
def seen_afterwards(tree: DevTree, over_commands: Outcomes) -> Outcomes:
    runs = {program: over_commands[program]["name"] for program in WITH_AFTER}
    (tree.folder / "runs.json").write_text(json.dumps(runs))
    return drive(tree, "after", "runs.json")


def assert_as_expected(outcome: dict[str, Any]) -> None:
    if outcome["raises"]:
        assert outcome["raises"] in outcome.get("error", ()), outcome
    else:
        assert outcome.get("value") == outcome["expected"], outcome


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_gives_what_it_should_on_an_embedded_cluster(program: str, on_embedded: Outcomes):
    assert_as_expected(on_embedded[program])


@pytest.mark.parametrize("program", [p for p in PROGRAMS if p not in NOT_IN_LOCAL_MODE])
def test_local_mode_gives_the_same_values_and_errors(
    program: str, in_local_mode: Outcomes, on_embedded: Outcomes
):
    assert_as_expected(in_local_mode[program])
    for key in ("value", "outputs", "error", "code", "text"):
        assert in_local_mode[program].get(key) == on_embedded[program].get(key)


@pytest.mark.parametrize("program", [p for p in PROGRAMS if p not in WITH_AFTER])
def test_the_command_line_shows_the_same_outputs_and_errors(
    program: str, over_commands: Outcomes, on_embedded: Outcomes
):
    shown, outcome = over_commands[program], on_embedded[program]
    if outcome["raises"]:
        assert shown["exit"] == 5
        assert shown["phase"] in ("FAILED", "TIMED_OUT")
        error = (shown["error"]["type"], shown["error"]["message"])
        assert error == (outcome["code"], outcome["text"])
    else:
        assert (shown["exit"], shown["phase"], shown["error"]) == (0, "SUCCEEDED", None)
        assert shown["outputs"] == outcome["outputs"]
    # Warnings of the program itself apart, nothing is said that the result does not say.
    assert "error[" not in shown["stderr"]
    assert "Traceback" not in shown["stderr"]


@pytest.mark.parametrize("program", WITH_AFTER)
def test_another_process_finds_the_run_of_a_command_as_its_own(
    program: str, seen_afterwards: Outcomes
):
    assert_as_expected(seen_afterwards[program])


def test_what_a_task_prints_is_kept_with_its_action(tree: DevTree, over_commands: Outcomes):
    ended = tree.run("get", "logs", over_commands["printed_output"]["run"])
    for line in ("line 0", "line 1", "line 2", "to the side"):
        assert line in ended.stdout


def test_the_logs_of_the_whole_corpus_keep_every_invariant(
    apart: DevTree, tree: DevTree, on_embedded: Outcomes, seen_afterwards: Outcomes
):
    assert on_embedded
    assert seen_afterwards
    for each in (apart, tree):
        ended = each.run("audit", "--all", "-o", "json")
        assert (ended.returncode, json.loads(ended.stdout)["violations"]) == (0, [])
