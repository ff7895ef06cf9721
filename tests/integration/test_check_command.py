"""`millstream check`: files loaded apart, and what is said of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dev_tree import DevTree, dev_tree

HEAD = 'import millstream\nenv = millstream.TaskEnvironment("shop")\n'
SOUND = f"""{HEAD}
@env.task
async def main(n: int = 3) -> list[int]:
    print("never printed")
    return [n]

if __name__ == "__main__":
    millstream.run(main)
"""
BAD = """
import sqlite3
import threading
from typing import TYPE_CHECKING
import millstream

if TYPE_CHECKING:
    from decimal import Decimal

print("loaded")
base = millstream.Image.from_debian_base(registry="r.example", name="n", platform=("linux/arm64",))
env = millstream.TaskEnvironment("shop", image=base.with_apt_packages("git"), service_account="me")
other = millstream.TaskEnvironment(
    "other", image=millstream.Image.from_debian_base().with_requirements("nowhere.txt")
)

class Own: ...

@env.task(pod_template="mine")
async def carried(a: int, own: Own, db: sqlite3.Connection) -> threading.Event:
    return threading.Event()

@env.task
async def hinted(x: "Decimal") -> int:
    return 1

@env.task
async def defaulted(n: int = "x") -> int:
    return n

@other.task
async def built() -> int:
    return 1
"""
WRONG = {
    ("error", "MS2204", "db"),
    ("error", "MS2204", "o0"),
    ("error", "MS2203", "Decimal"),
    ("error", "MS2205", "default of n"),
    ("error", "MS2208", "nowhere.txt"),
    ("warning", "MS2030", "own"),
    ("warning", "MS2002", "pod_template"),
    ("warning", "MS2005", "service_account"),
    ("warning", "MS2022", "registry"),
    ("warning", "MS2023", "apt"),
    ("warning", "MS2026", "platform"),
}


def check(folder: Path, source: str, *options: str) -> tuple[int, dict[str, Any]]:
    (folder / "flow_to_check.py").write_text(source)
    tree = DevTree(folder)
    ended = tree.run("check", "flow_to_check.py", "-o", "json", *options)
    report: dict[str, Any] = json.loads(ended.stdout)
    return ended.returncode, report


def codes(report: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in report["findings"]]


def test_a_sound_file_is_listed_and_nothing_of_it_runs(tmp_path: Path):
    status, report = check(tmp_path, SOUND, "--strict")
    assert (status, report["ok"], report["findings"]) == (0, True, [])
    (task,) = report["tasks"]
    assert (task["name"], task["where"]) == ("shop.main", "flow_to_check.py:4")
    assert [(each["name"], each["type"], each["travels"]) for each in task["inputs"]] == [
        ("n", "int", "msgpack")
    ]
    assert not (tmp_path / ".millstream").exists()


def test_everything_that_is_wrong_is_named_with_its_code_at_once(tmp_path: Path):
    status, report = check(tmp_path, BAD)
    assert (status, report["ok"]) == (6, False)
    for level, code, word in WRONG:
        assert any(
            (finding["level"], finding["code"]) == (level, code) and word in finding["text"]
            for finding in report["findings"]
        ), (code, word)
    assert len(report["findings"]) == len(WRONG)
    assert [task["name"] for task in report["tasks"]] == [
        "shop.carried", "shop.hinted", "shop.defaulted", "other.built",
    ]  # fmt: skip


def test_warnings_alone_are_no_failure_unless_they_are_to_be(tmp_path: Path):
    source = SOUND.replace('"shop"', '"shop", service_account="me"')
    assert check(tmp_path, source)[0] == 0
    assert check(tmp_path, source, "--strict")[0] == 6


@pytest.mark.parametrize(
    ("source", "code", "where"),
    [
        (SOUND.partition("if __name__")[0] + "millstream.run(main)\n", "MS2202", ":9"),
        (HEAD + "1 / 0\n", "MS2201", ":3"),
        (HEAD + "def broken(:\n", "MS2201", ":3"),
        (HEAD + "import os\nos._exit(7)\n", "MS2201", ""),
        (HEAD + "raise SystemExit(3)\n", "MS2201", ":3"),
        (HEAD, "MS2210", ""),
    ],
    ids=["no-guard", "raises", "syntax", "exits-at-once", "exits", "no-task"],
)
def test_a_file_that_cannot_be_loaded_as_workers_do_is_a_finding(
    tmp_path: Path, source: str, code: str, where: str
):
    status, report = check(tmp_path, source)
    assert (status, report["ok"]) == (6, False)
    assert code in codes(report)
    finding = next(each for each in report["findings"] if each["code"] == code)
    assert finding["where"].endswith(where)
    assert ("__main__" in finding["hint"]) == (code == "MS2202")


def test_queues_and_pools_are_looked_up_where_a_cluster_runs(tmp_path: Path):
    source = SOUND.replace("@env.task", '@env.task(queue="nihgt", pool="gpu")')
    with dev_tree(tmp_path, "--slots", "1", "--workers", "1") as tree:
        assert tree.run("create", "queue", "night").returncode == 0
        status, report = check(tmp_path, source)
        assert (status, codes(report)) == (0, ["MS2206", "MS2207"])
        assert "Did you mean 'night'?" in report["findings"][0]["text"]
        known = SOUND.replace("@env.task", '@env.task(queue="night", pool="default")')
        assert check(tmp_path, known, "--strict")[0] == 0


def test_the_text_says_file_line_code_and_what_to_do(tmp_path: Path):
    (tmp_path / "flow.py").write_text(BAD)
    ended = DevTree(tmp_path).run("check", "flow.py")
    assert "flow.py:19: error[MS2204]: shop.carried: db is a sqlite3.Connection" in ended.stdout
    assert "loaded" not in ended.stdout
    assert DevTree(tmp_path).run("check", "nowhere.py").returncode == 4


def test_the_child_needs_nothing_of_the_working_directory(tmp_path: Path):
    (tmp_path / "types.py").write_text("raise RuntimeError('shadowed')\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "flow.py").write_text(SOUND)
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "millstream.cli", "check", "src/flow.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
