"""Which calls are the same."""

import functools
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millstream._identity import body_hash, call_id, task_identity
from millstream._interface import Interface
from millstream_events.ids import ROOT_ID, child_id

SOURCE = '''
import env
@env.task(retries=1)
def f(x):
    """Say."""
    return x + 1
'''


class _Env(types.ModuleType):
    @staticmethod
    def task(**_: object) -> Callable[[Any], Any]:
        return lambda func: func

    @staticmethod
    def other(func: Any) -> Any:
        return func


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[..., Any]]:
    import sys

    monkeypatch.setitem(sys.modules, "env", _Env("env"))
    count = 0

    def make(source: str) -> Callable[..., Any]:
        nonlocal count
        count += 1
        file = tmp_path / f"m{count}.py"
        file.write_text(source)
        space: dict[str, Any] = {"__name__": "m"}
        exec(compile(source, str(file), "exec"), space)
        return space["f"]  # type: ignore[no-any-return]

    return make


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("return x + 1", "return x  +  1  # a comment", True),
        ("(retries=1)", "(retries=5, cache='auto')", True),
        ("@env.task", "\n\n@env.task", True),
        ("@env.task", "@env.other\n@env.task", False),
        ("x + 1", "x + 2", False),
        ('"""Say."""', '"""Tell."""', False),
    ],
)
def test_the_body_hash_sees_what_the_code_does(
    load: Callable[[str], Callable[..., Any]], old: str, new: str, is_same: bool
) -> None:
    assert old in SOURCE
    before = body_hash(load(SOURCE))
    assert (body_hash(load(SOURCE.replace(old, new))) == before) is is_same


def test_code_without_source_is_hashed_as_it_was_compiled() -> None:
    def make(body: str) -> Callable[..., Any]:
        space: dict[str, Any] = {}
        exec(textwrap.dedent(body), space)
        return space["f"]  # type: ignore[no-any-return]

    one = body_hash(make("def f(x): return x in {'a', 'b', 'c'}"))
    assert one == body_hash(make("\n\ndef f(x):  return x in {'a', 'b', 'c'}"))
    assert one != body_hash(make("def f(x): return x in {'a', 'b', 'd'}"))
    inner = [f"def f(x):\n    def g(): return {n}\n    return g" for n in (1, 2)]
    assert body_hash(make(inner[0])) != body_hash(make(inner[1]))


def test_two_lambdas_of_one_line_are_not_the_same() -> None:
    pair = (lambda x: x + 1, lambda x: x + 2)
    assert body_hash(pair[0]) != body_hash(pair[1])


def test_bound_arguments_are_part_of_the_body() -> None:
    def f(x: int, y: int) -> int:
        return x + y

    one, two = functools.partial(f, 1), functools.partial(f, 2)
    assert body_hash(one) != body_hash(two)


def test_identity_is_name_interface_and_body() -> None:
    def f(x: int) -> int:
        return x

    def g(x: float) -> int:
        return 1

    made = {task_identity(n, Interface.of(h), h) for n, h in [("a", f), ("b", f), ("a", g)]}
    assert len(made) == 3
    assert {len(identity) for identity in made} == {16}


def test_only_identical_calls_are_counted() -> None:
    counters: dict[tuple[bytes, bytes, str], int] = {}
    first, k = call_id(ROOT_ID, b"t", b"1", "", counters)
    assert k == 0
    assert call_id(ROOT_ID, b"t", b"2", "", counters)[1] == 0
    again, k = call_id(ROOT_ID, b"t", b"1", "", counters)
    assert k == 1
    assert again != first
    assert call_id(ROOT_ID, b"t", b"1", "g", counters)[1] == 0
    assert again == child_id(ROOT_ID, task_identity=b"t", inputs_hash=b"1", group="", k=1)
