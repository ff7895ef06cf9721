"""Task parameters as options: what is the task's, what is the command's, and what it becomes."""

import datetime as dt
import enum
import inspect
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from millstream.cli import run as run_command
from millstream.cli.arguments import (
    TaskParameter,
    convert,
    find_target,
    parameters_of,
    parse_inputs,
    split_tail,
)
from millstream.cli.outcome import UsageError
from millstream.cli.run_settings import OPTIONS, RunSettings

OWN = {"--name": True, "-o": True, "--output": True, "--detach": False}


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


@dataclass
class Point:
    x: int
    y: int = 0


def sample(n: int, name: str, fast: bool = False, batch_size: float = 1.0) -> None: ...


def parameters(function: Callable[..., object] = sample) -> list[TaskParameter]:
    return parameters_of(function, inspect.get_annotations(function))


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("3", int, 3),
        ("-3", int, -3),
        ("3", float, 3.0),
        ("1e3", float, 1000.0),
        ("3", str, "3"),
        ("", str, ""),
        ("false", bool, False),
        ("3", int | None, 3),
        ("none", int | None, None),
        ("null", str | None, None),
        ("3", int | str, 3),
        ("3", str | int, 3),
        ("x", int | str, "x"),
        ("b", Literal["a", "b"], "b"),
        ("2", Literal[1, 2], 2),
        ("RED", Colour, Colour.RED),
        ("b", Colour, Colour.BLUE),
        ("[1, 2]", list[int], [1, 2]),
        ('{"a": 1}', dict[str, int], {"a": 1}),
        ("[1, 2]", tuple[int, int], (1, 2)),
        ('{"x": 1}', Point, Point(1)),
        ("2026-01-31", dt.date, dt.date(2026, 1, 31)),
        ("/tmp/x", pathlib.Path, pathlib.Path("/tmp/x")),
        ("7", Annotated[int, "a note"], 7),
        ('{"a": [1]}', object, {"a": [1]}),
        ("plain", object, "plain"),
    ],
)
def test_a_text_becomes_a_value_of_the_annotated_type(
    text: str, annotation: object, value: object
) -> None:
    found = convert(text, annotation)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation"),
    [
        ("3.5", int),
        ("x", int),
        ("x", float),
        ("maybe", bool),
        ("c", Literal["a", "b"]),
        ("GREEN", Colour),
        ("[1", list[int]),
        ('["a"]', list[int]),
        ('{"z": 1}', Point),
        ("yesterday", dt.date),
        ("x", int | None),
    ],
)
def test_a_text_of_another_type_is_refused(text: str, annotation: object) -> None:
    with pytest.raises(ValueError):
        convert(text, annotation)


@pytest.mark.parametrize(
    ("tokens", "inputs"),
    [
        (["--n", "3", "--name", "x"], {"n": 3, "name": "x"}),
        (["--n=3", "--name=--odd"], {"n": 3, "name": "--odd"}),
        (["--n", "-3", "--name", "-"], {"n": -3, "name": "-"}),
        (["--n", "1", "--name", "x", "--fast"], {"n": 1, "name": "x", "fast": True}),
        (["--n", "1", "--name", "x", "--no-fast"], {"n": 1, "name": "x", "fast": False}),
        (["--n", "1", "--name", "x", "--fast=no"], {"n": 1, "name": "x", "fast": False}),
        (["--n", "1", "--name", "x", "--batch-size", "2"], {"n": 1, "name": "x", "batch_size": 2}),
        (["--n", "1", "--name", "x", "--batch_size=2"], {"n": 1, "name": "x", "batch_size": 2}),
    ],
)
def test_options_become_inputs_and_defaults_are_left_to_the_task(
    tokens: list[str], inputs: dict[str, object]
) -> None:
    assert parse_inputs(tokens, parameters()) == inputs


def test_missing_parameters_are_named_together_with_their_types() -> None:
    with pytest.raises(UsageError, match=r"required: --n \(int\), --name \(str\)"):
        parse_inputs([], parameters())


def test_an_option_without_its_value_is_refused() -> None:
    with pytest.raises(UsageError, match="--n needs a value of type int"):
        parse_inputs(["--n"], parameters())


def test_an_unknown_option_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean '--batch-size'"):
        split_tail(["--bach-size", "2"], parameters(), OWN)


def test_a_positional_value_is_refused() -> None:
    with pytest.raises(UsageError, match="unexpected argument '3'"):
        split_tail(["3"], parameters(), OWN)


def test_behind_the_task_a_shared_name_is_the_tasks_and_the_rest_the_commands() -> None:
    command = split_tail(["--name", "x", "-o", "json", "--detach", "--n=3"], parameters(), OWN)
    assert command.task == ("--name", "x", "--n=3")
    assert command.own == ("-o", "json", "--detach")


def test_behind_two_dashes_everything_is_the_tasks() -> None:
    assert split_tail(["-o", "json", "--", "--detach"], parameters(), OWN).task == ("--detach",)


@pytest.mark.parametrize(
    ("tokens", "target"),
    [
        (["f.py", "main"], (0, 1)),
        (["--name", "x", "f.py", "main", "--n", "3"], (2, 3)),
        (["--name=x", "--detach", "f.py", "main"], (2, 3)),
        (["-o", "json", "f.py", "-o", "json", "main"], (2, 5)),
        (["f.py"], None),
        ([], None),
        (["-o", "f.py", "main"], None),
    ],
)
def test_file_and_task_are_found_between_options(
    tokens: list[str], target: tuple[int, int] | None
) -> None:
    assert find_target(tokens, OWN) == target


def options_of(callable_: object, *, leave_out: tuple[str, ...] = ()) -> dict[str, bool]:
    """Return the options that parameters stand for; True: with a value."""
    found: dict[str, bool] = {}
    for parameter in inspect.signature(callable_).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            continue
        if parameter.name not in leave_out:
            names = {f"--{parameter.name.replace('_', '-')}"}
            for extra in getattr(parameter.annotation, "__metadata__", ()):
                names |= set(extra.name or ())
            valued = "bool" not in str(parameter.annotation)
            found |= dict.fromkeys(names, valued)
    return found


def test_the_table_of_the_run_commands_options_is_its_signature() -> None:
    options = options_of(run_command.launch, leave_out=("common", "settings"))
    shared = {"--output": True, "-o": True, "--verbose": False, "-v": False}
    assert options_of(RunSettings) == OPTIONS
    assert {**options, **shared, **OPTIONS} == dict(run_command.OWN)


def test_settings_of_a_run_are_those_of_its_context() -> None:
    given = RunSettings(env=("A=1", "B=x=y"), label=("team=x",), max_action_concurrency=3)
    assert given.options() == {
        "env_vars": {"A": "1", "B": "x=y"},
        "labels": {"team": "x"},
        "max_action_concurrency": 3,
    }
    with pytest.raises(UsageError, match="--label takes KEY=VALUE, not 'team'"):
        RunSettings(label=("team",)).options()
    with pytest.raises(UsageError, match="no folder nowhere"):
        RunSettings(root_dir="nowhere").root()
