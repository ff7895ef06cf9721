"""Every program of `examples/` runs as its docstring says, and prints what it promises."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dev_tree import DevTree, dev_tree

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: What the survey is made of; they are no programs.
PARTS = {"survey_demo", "survey_report"}
#: Program -> patterns of its lines, in order; lines between them may be any.
PRINTED = {
    "agent_loop": [
        r"longest module met: argparse",
        r"killed 1 time, 10 calls recorded",
        r"10 calls made, 10 of them different",
    ],
    "all_or_nothing": [
        r"\d+ copies of \d+ bytes are equal",
        r"decoder.py differs at byte 100",
    ],
    "busy_database": [
        r"written by a retry: True",
        r"the endless query: MaxRuntimeExceededError; rows: 1",
    ],
    "compress_files": [r"decoder.py: \d+ -> \d+", r"smaller: (\d+) of \1"],
    "digits_sweep": [
        r"the huge model ran with 1500Mi",
        r"stopped early: True",
        r"best gamma: 0.\d+, accuracy 0.9\d+",
    ],
    "errors_by_class": [
        r"broken.json: JSON, line 1 column 1\d",
        r"broken.py: Python, line 1",
        r"broken.toml: TOMLDecodeError",
        r"good.json: dict",
        r"good.toml: dict",
        r"latin.json: not UTF-8 at byte 3",
        r"odd.mill: unknown suffix .mill",
    ],
    "first_answer": [
        r"944871836856449473 = 961748941 \* 982451653",
        r"some searches were cancelled: True",
    ],
    "folder_stream": [r"\d\d files, \d+ bytes, digest \w{12}", r"largest block: 65536 bytes"],
    "frame_cache": [
        r"asked 3 times, ran 2 times",
        r"first and last answer are equal: True",
        r"largest: \w+, \w+, \w+",
    ],
    "long_lines": [r"\d+ lines over 100 characters in \d+ files", r"each came once: True"],
    "merge_sort": [r"\d+ words in order: True", r"actions: True"],
    "served_index": [
        r"sched imports heapq: True",
        r"another server: True",
        r"the same answer: True",
        r"still there: False",
    ],
    "slept_once": [
        r"2 attempts",
        r"slept the whole time: True, and not from the start again: True",
    ],
    "stdlib_survey": [r"3\d modules, [\d,]+ lines, [\d,]+ functions", r"0 files are not Python 3"],
}
ARGUMENTS = {"stdlib_survey": [str(Path(asyncio.__file__).parent)]}
DEADLINE_S = 60


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    with dev_tree(tmp_path_factory.mktemp("examples")) as made:
        yield made


@pytest.fixture(scope="module")
def url(tree: DevTree) -> str:
    """Where the cluster is, with its token."""
    found: str = json.loads(tree.run("get", "cluster", "-o", "json").stdout)["nats"]
    return found


def test_every_example_is_tried_and_listed():
    programs = {path.stem for path in EXAMPLES.glob("*.py")} - PARTS
    assert programs == PRINTED.keys()
    listed = re.findall(r"^\| `(\w+)\.py` \|", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == sorted(programs)


@pytest.mark.parametrize("program", PRINTED)
def test_an_example_prints_what_it_promises(program: str, tree: DevTree, url: str, tmp_path: Path):
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{program}.py"), *ARGUMENTS.get(program, [])],
        cwd=tmp_path,
        env={**tree.environ(), "MILLSTREAM_ENDPOINT": url},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    lines = iter(ended.stdout.splitlines())
    for pattern in PRINTED[program]:
        found = any(re.fullmatch(pattern, line) for line in lines)
        assert found, f"{pattern!r} is not in its place:\n{ended.stdout}\n{ended.stderr}"


@pytest.mark.parametrize("program", sorted(PRINTED.keys() - {"stdlib_survey"}))
def test_an_example_is_short_and_says_how_to_run_it(program: str):
    text = (EXAMPLES / f"{program}.py").read_text()
    assert text.count("\n") < 90
    assert f"python examples/{program}.py" in text
