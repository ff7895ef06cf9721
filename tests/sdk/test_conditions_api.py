"""Conditions in local mode: the prompt on the console, and `signal` from another thread."""

import asyncio
import builtins
import concurrent.futures
import inspect
import io
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import millstream
from millstream._condition import Condition
from millstream._prompts import parse_answer
from millstream._remote_condition import coerce_condition_payload

env = millstream.TaskEnvironment("conditions_api")


@env.task
async def ask_for(kind: str, timeout: float = 20.0) -> str:
    types: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
    asked = await millstream.new_condition.aio(
        kind, prompt="Well?", data_type=types[kind], timeout=timeout, description="A test."
    )
    return repr(await asked.wait.aio())


@env.task
async def nothing() -> str:
    return ""


def local(*args: Any, name: str | None = None) -> str:
    found: str = millstream.with_runcontext(mode="local", name=name).run(*args).result()
    return found


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> list[str]:
    """Let a person type these lines; what they were asked is returned."""
    answers, prompts = list(lines), list[str]()

    def reads(prompt: str = "") -> str:
        prompts.append(prompt)
        if not answers:
            raise EOFError
        return answers.pop(0)

    monkeypatch.setattr(builtins, "input", reads)
    return prompts


def asked_in(run: str) -> millstream.remote.Condition:
    """Return the condition `int` of a run as soon as it is asked."""
    while True:
        try:
            asked = millstream.remote.Condition.get("int", run_name=run)
        except millstream.errors.RejectedError:
            continue  # The run is not there yet.
        if asked is not None:
            return asked


@pytest.mark.parametrize(
    ("kind", "lines", "answer"),
    [
        ("bool", ["y"], "True"),
        ("bool", ["maybe", "No"], "False"),
        ("int", ["x", "7"], "7"),
        ("float", ["2"], "2.0"),
        ("str", ["as it is"], "'as it is'"),
    ],
)
def test_the_console_asks_until_it_gets_an_answer_of_the_right_type(
    monkeypatch: pytest.MonkeyPatch, kind: str, lines: list[str], answer: str
) -> None:
    prompts = typed(monkeypatch, *lines)
    assert local(ask_for, kind) == answer
    assert prompts[0].startswith("Well?")
    assert len(prompts) == len(lines)


def test_an_answer_goes_to_the_run_that_asked_though_another_one_asks_the_same_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = ["1", "2"]
    second = concurrent.futures.ThreadPoolExecutor(1)
    waiting: list[concurrent.futures.Future[str]] = []

    def reads(prompt: str = "") -> str:
        del prompt
        if not waiting:
            # The same program runs once more, and asks, while the person still thinks.
            waiting.append(second.submit(local, ask_for, "int", name="asks-meanwhile"))
            asked_in("asks-meanwhile")
        return answers.pop(0)

    monkeypatch.setattr(builtins, "input", reads)
    assert local(ask_for, "int") == "1"
    assert waiting[0].result(20) == "2"
    second.shutdown()


def test_where_nobody_can_be_asked_another_thread_may_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typed(monkeypatch)
    found: list[Any] = []

    def answer() -> None:
        asked = asked_in("answered-by-thread")
        found.append((asked.phase, asked.expected_type, asked.prompt, asked.description))
        asked.signal(4)

    assert local(nothing) == ""  # Local mode is there: nobody looks for a cluster alone.
    thread = threading.Thread(target=answer)
    thread.start()
    assert local(ask_for, "int", name="answered-by-thread") == "4"
    thread.join(timeout=20)
    assert found == [("PAUSED", int, "Well?", "A test.")]
    (listed,) = millstream.remote.Condition.listall(run_name="answered-by-thread")
    assert (listed.value, listed.done(), listed.action_name) == (4, True, "a1")
    assert listed.run_name == "answered-by-thread"
    assert millstream.remote.Condition.get("none", run_name="answered-by-thread") is None


def test_nobody_answers_and_the_timeout_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch)
    with pytest.raises(millstream.errors.ConditionTimedoutError, match="was not signaled within"):
        millstream.with_runcontext(mode="local").run(ask_for, "bool", 0.1)


def test_lines_that_are_piped_in_answer_one_condition_each(tmp_path: Path) -> None:
    (tmp_path / "piped.py").write_text(
        "import millstream as flyte\n"
        "env = flyte.TaskEnvironment('piped')\n"
        "@env.task\n"
        "def main() -> str:\n"
        "    go = flyte.new_condition('go').wait()\n"
        "    return f'{go} {flyte.new_condition(\"n\", data_type=int).wait()}'\n"
        "if __name__ == '__main__':\n"
        "    print(flyte.with_runcontext(mode='local').run(main).outputs()[0])\n"
    )
    ended = subprocess.run(
        [sys.executable, "piped.py"], cwd=tmp_path, input="yes\n12\n", text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("True 12\n")


def test_a_condition_has_flytes_parameters_and_defaults() -> None:
    for form in (millstream.new_condition.__call__, millstream.new_condition.aio):
        parameters = list(inspect.signature(form).parameters.values())
        assert parameters[0].kind is inspect.Parameter.POSITIONAL_ONLY
        assert {one.name: one.default for one in parameters[1:]} == {
            "prompt": "Approve?",
            "prompt_type": "text",
            "data_type": bool,
            "description": "",
            "timeout": None,
            "webhook": None,
        }
    hook = millstream.ConditionWebhook(url="https://example.com", payload={"a": "{callback_uri}"})
    limit = timedelta(seconds=5)
    made = asyncio.run(millstream.new_condition.aio("x", timeout=limit, webhook=hook))
    assert isinstance(made, Condition)
    assert (made.name, made.timeout, made.webhook) == ("x", limit, hook)
    assert millstream.ConditionWebhook("http://h").payload is None


@pytest.mark.parametrize("timeout", [0, -1, 0.0, timedelta(0), float("nan")])
def test_a_timeout_that_is_not_positive_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be positive"):
        millstream.new_condition("x", timeout=timeout)


@pytest.mark.parametrize("data_type", [list, dict, type(None), bytes])
def test_another_type_of_answer_is_refused(data_type: Any) -> None:
    with pytest.raises(TypeError, match="Invalid data_type"):
        millstream.new_condition("x", data_type=data_type)


def test_nobody_can_wait_outside_of_a_task() -> None:
    with pytest.raises(RuntimeError, match="within a task context"):
        millstream.new_condition("x").wait()
    with pytest.raises(RuntimeError, match="within a task context"):
        asyncio.run(millstream.new_condition("x").wait.aio())


@pytest.mark.parametrize(
    ("value", "expected", "answer"),
    [
        (True, bool, True), ("No", bool, False), (" t ", bool, True),
        (3, int, 3), ("3", int, 3), (3, float, 3.0), ("2.5", float, 2.5),
        ("x", str, "x"), (5, str, "5"),
    ],
)  # fmt: skip
def test_texts_become_what_is_asked_for(value: Any, expected: Any, answer: Any) -> None:
    found = coerce_condition_payload(value, expected)
    assert (found, type(found)) == (answer, expected)


@pytest.mark.parametrize(("value", "expected"), [(True, int), (1, bool), (True, float)])
def test_values_of_another_type_are_refused(value: Any, expected: Any) -> None:
    with pytest.raises(TypeError):
        coerce_condition_payload(value, expected)


@pytest.mark.parametrize(("text", "expects"), [("", "bool"), ("2", "bool"), ("1.5", "int")])
def test_texts_that_are_no_answer_are_refused(text: str, expects: str) -> None:
    with pytest.raises(ValueError, match="could not parse"):
        parse_answer(text, expects)


def test_an_input_that_is_no_file_is_read_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert local(ask_for, "bool") == "False"
