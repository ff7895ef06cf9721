"""The same programs in local mode, on a cluster and over the command line.

Every file of `programs/` has one idea, a task `main` that needs no parameters, and what it gives
(`EXPECT`) or raises (`RAISES`). With a coroutine `after(run)` it is that one's value which counts.
"""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dev_tree import DevTree, dev_tree

HERE = Path(__file__).parent
PROGRAMS = sorted(path.stem for path in (HERE / "programs").glob("*.py"))
#: What only processes can give, so that local mode cannot, and why.
NOT_IN_LOCAL_MODE = {
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
OVER_THE_COMMAND_LINE = (
    "custom_error", "default_arguments", "enums_and_dates", "odd_numbers", "printed_output",
    "pydantic_models", "root_error", "static_diamond", "tuple_outputs",
)  # fmt: skip
DEADLINE_S = 120

Outcomes = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    folder = tmp_path_factory.mktemp("corpus")
    for path in (*(HERE / "programs").glob("*.py"), HERE / "driver" / "drive_programs.py"):
        shutil.copy(path, folder)
    secrets = folder / ".millstream" / "secrets.toml"
    secrets.parent.mkdir(mode=0o700)
    secrets.write_text('corpus-key = "k-123-xyz"\n[corpus]\ntoken = "t-4567-abcd"\n')
    secrets.chmod(0o600)
    with dev_tree(folder, "--slots", "2", "--workers", "2") as made:
        yield made


def drive(tree: DevTree, mode: str, *skipped: str) -> Outcomes:
    """Run the whole corpus in one process, so that a program costs milliseconds."""
    ended = subprocess.run(
        [sys.executable, "drive_programs.py", mode, *skipped],
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
def in_cluster(tree: DevTree) -> Outcomes:
    return drive(tree, "remote")


@pytest.fixture(scope="module")
def in_local_mode(tree: DevTree) -> Outcomes:
    return drive(tree, "local", *NOT_IN_LOCAL_MODE)


def assert_as_expected(outcome: dict[str, Any]) -> None:
    if outcome["raises"]:
        assert outcome["raises"] in outcome.get("error", ()), outcome
    else:
        assert outcome.get("value") == outcome["expected"], outcome


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_gives_what_it_should_on_a_cluster(program: str, in_cluster: Outcomes):
    assert_as_expected(in_cluster[program])


@pytest.mark.parametrize("program", [p for p in PROGRAMS if p not in NOT_IN_LOCAL_MODE])
def test_local_mode_gives_the_same_values_and_errors(
    program: str, in_local_mode: Outcomes, in_cluster: Outcomes
):
    assert_as_expected(in_local_mode[program])
    for key in ("value", "outputs", "error", "code", "text"):
        assert in_local_mode[program].get(key) == in_cluster[program].get(key)


@pytest.mark.parametrize("program", OVER_THE_COMMAND_LINE)
def test_the_command_line_shows_the_same_outputs_and_errors(
    program: str, tree: DevTree, in_cluster: Outcomes
):
    ended = tree.run("run", f"{program}.py", "main", "-o", "json")
    shown = json.loads(ended.stdout)
    outcome = in_cluster[program]
    if outcome["raises"]:
        assert ended.returncode == 5
        assert (shown["phase"], shown["error"]["type"]) == ("FAILED", outcome["code"])
        assert shown["error"]["message"] == outcome["text"]
    else:
        assert (ended.returncode, ended.stderr) == (0, "")
        assert (shown["phase"], shown["outputs"]) == ("SUCCEEDED", outcome["outputs"])


def test_what_a_task_prints_is_kept_with_its_action(tree: DevTree, in_cluster: Outcomes):
    ended = tree.run("get", "logs", in_cluster["printed_output"]["run"])
    for line in ("line 0", "line 1", "line 2", "to the side"):
        assert line in ended.stdout


def test_the_log_of_the_whole_corpus_keeps_every_invariant(tree: DevTree, in_cluster: Outcomes):
    assert in_cluster
    ended = tree.run("audit", "--all", "-o", "json")
    assert (ended.returncode, json.loads(ended.stdout)["violations"]) == (0, [])
