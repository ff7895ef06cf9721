"""The command line as a whole: what it imports, how it refuses, what it prints."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from millstream.cli import fork, rerun, run
from millstream.cli.front import COMMANDS
from millstream.cli.output import cell, to_table, to_yaml
from millstream.cli.root import build, execute

HEAVY = ("nats", "structlog", "uvloop", "pydantic", "aiosqlite")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MILLSTREAM_ENDPOINT", raising=False)
    return tmp_path


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from millstream.cli.root import execute\n"
        "assert execute(['--help']) == 0\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    assert "doctor" in done.stdout


@pytest.mark.parametrize(
    ("tokens", "status", "text"),
    [
        (["runn"], 2, 'Did you mean "run"'),
        (["get", "rum"], 2, "run"),
        (["get", "event"], 2, "RUN"),
        (["get", "run", "--limit", "x"], 2, "--limit"),
        (["get", "run", "-o", "xml"], 2, "xml"),
        (["run"], 2, "FILE"),
        (["run", "absent.py"], 2, "TASK"),
        (["run", "absent.py", "main"], 4, "no file absent.py"),
        (["get", "run"], 7, "no cluster"),
        (["abort", "run", "x"], 7, "no cluster"),
        (["audit", "x", "--all"], 2, "--all"),
        (["replay", "x", "--at", "noon"], 2, "neither a revision nor a time"),
        (["start", "pool", "--labels", "x"], 2, "key=value"),
        (["start", "pool", "--nats", "http://x"], 2, "http://x"),
        (["dev", "--durability", "none"], 2, "durability"),
        (["dev", "--slots", "-1"], 2, "slots"),
    ],
)
def test_a_mistake_ends_with_its_code_and_says_what_is_wrong(
    tokens: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(tokens) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error[MS")
    assert text.lower() in printed.err.lower()
    assert "Traceback" not in printed.err


def test_with_json_an_error_is_one_object_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["get", "run", "-o", "json"]) == 7
    printed = capsys.readouterr()
    error = json.loads(printed.err)
    assert printed.out == ""
    assert error["code"] == "MS1601"
    assert error["details"]["name"] == "not-reached"
    assert set(error) == {"code", "message", "hint", "details"}


def test_an_error_in_the_users_file_shows_the_users_frames_only(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "broken_flow.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    assert execute(["run", "broken_flow.py", "main"]) == 1
    printed = capsys.readouterr().err
    assert "ZeroDivisionError" in printed
    assert printed.count('File "') == 2
    assert "importlib" not in printed
    assert "millstream/cli" not in printed


def test_a_syntax_error_names_file_and_line(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "bad_syntax_flow.py").write_text("x = 1\ndef f(:\n")
    assert execute(["run", "bad_syntax_flow.py", "main"]) == 1
    printed = capsys.readouterr().err
    assert "bad_syntax_flow.py" in printed
    assert "line 2" in printed


def test_a_file_whose_name_belongs_to_another_module_is_refused(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "json.py").write_text("x = 1\n")
    assert execute(["run", "json.py", "main"]) == 2
    assert "another module has that name" in capsys.readouterr().err


def test_a_name_that_cannot_be_imported_is_refused(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "my-flow.py").write_text("x = 1\n")
    assert execute(["run", "my-flow.py", "main"]) == 2
    assert "'my-flow'" in capsys.readouterr().err


def test_an_unknown_task_is_answered_with_the_nearest_one(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "two_tasks_flow.py").write_text(
        "import millstream\n"
        "env = millstream.TaskEnvironment(name='two')\n"
        "@env.task\n"
        "async def main() -> int:\n    return 1\n"
    )
    assert execute(["run", "two_tasks_flow.py", "mian"]) == 4
    printed = capsys.readouterr().err
    assert "Did you mean 'main'" in printed


def test_tables_are_plain_and_cut_long_cells_unless_wide() -> None:
    rows = [{"name": "a", "actions": {"total": 3}, "error": {"message": "x" * 100}}]
    columns = ["name", "actions.total", "error.message"]
    narrow = to_table(rows, columns, wide=False).splitlines()
    assert narrow[0].split() == ["NAME", "ACTIONS.TOTAL", "ERROR.MESSAGE"]
    assert narrow[1].endswith("...")
    assert "x" * 100 in to_table(rows, columns, wide=True)
    assert to_table([], columns, wide=False) == ""


def test_yaml_quotes_every_text_so_that_nothing_can_be_misread() -> None:
    value = {"a": "no", "b": [1, {"c": None, "d": [True, []]}], "e": {}, "f": "x: y\n"}
    assert to_yaml(value) == (
        '"a": "no"\n'
        '"b":\n'
        "  - 1\n"
        '  - "c": null\n'
        '    "d":\n'
        "      - true\n"
        "      - []\n"
        '"e": {}\n'
        '"f": "x: y\\n"\n'
    )


@pytest.mark.parametrize(
    ("path", "text"), [("a", "1"), ("b.c", "true"), ("b.d", ""), ("x", ""), ("b", '{"c":true}')]
)
def test_a_cell_is_found_by_its_dotted_path(path: str, text: str) -> None:
    assert cell({"a": 1, "b": {"c": True}}, path) == text


def test_the_root_help_names_every_command_and_loads_no_parser() -> None:
    code = (
        "import sys\n"
        "from millstream.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as done:\n"
        "    assert not done.code\n"
        "print('parser:', 'cyclopts' in sys.modules, 'asyncio' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "parser: False False" in done.stdout
    assert "  run: Run a task of a file.\n" in done.stdout
    named = {name for name in build() if not name.startswith("-")}
    assert named == set(COMMANDS)


def leaves(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    """Yield every command that does something, with its name."""
    if app.default_command is not None:
        yield " ".join(path), app
    for name in app:
        if not name.startswith("-"):
            yield from leaves(app[name], (*path, name))


def test_every_command_with_a_project_or_domain_takes_their_short_forms() -> None:
    seen: set[str] = set()
    # `run`, `rerun` and `fork` tell the task's options from their own with parsers of theirs.
    own = {"run": run._parser, "rerun": rerun._parser, "fork": fork._parser}
    for name, app in (*leaves(build()), *own.items()):
        options = {
            each for argument in app.assemble_argument_collection() for each in argument.names
        }
        for long, short in (("--project", "-p"), ("--domain", "-d")):
            if long in options:
                seen.add(name)
                assert short in options, f"{name} {long}"
    assert seen > {"serve", "fork", "get app", "get artifact", "get run", "deploy"}
