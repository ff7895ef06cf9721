"""Conditions and pauses on a running cluster: over the command line, and through crashes."""

import asyncio
import contextlib
import http.server
import io
import json
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dev_tree import DevTree, dev_tree, events_of, wait_for_run, whole_log

from millstream.cli.root import execute
from millstream_events.audit import audit
from millstream_events.model import ActionRequested, ConditionOpened
from millstream_events.phases import State
from millstream_events.state import RunState

pytestmark = pytest.mark.alone

ASK = """
import millstream

env = millstream.TaskEnvironment("ask")

@env.task
async def ask(about: str, timeout: float = 0.0, hook: str = "") -> int:
    webhook = millstream.ConditionWebhook(hook, {"to": ["{callback_uri}"]}) if hook else None
    asked = await millstream.new_condition.aio(
        about, prompt="How many?", data_type=int, timeout=timeout or None, webhook=webhook
    )
    return await asked.wait.aio()

@env.task
async def quick(n: int) -> int:
    return n

@env.task
async def chain(n: int) -> int:
    asked = await millstream.new_condition.aio("first", data_type=bool)
    await asked.wait.aio()
    return await quick(n)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    folder = tmp_path_factory.mktemp("conditions")
    (folder / "ask.py").write_text(ASK)
    # One slot: whoever waits must not hold it.
    with dev_tree(folder, "--slots", "1", "--workers", "1") as made:
        yield made


def start(tree: DevTree, task: str, name: str, **parameters: Any) -> None:
    options = [item for k, v in parameters.items() for item in (f"--{k}", str(v))]
    ended = tree.run("run", "ask.py", task, *options, "--name", name, "--detach", "-o", "json")
    assert ended.returncode == 0, ended.stderr


def until(tree: DevTree, name: str, reached: Callable[[RunState], bool]) -> RunState:
    async def body() -> RunState:
        async with tree.connected() as connection:
            return await wait_for_run(connection, name, reached)

    return asyncio.run(body())


def asks(run: RunState) -> bool:
    """The condition is open, and its parent's attempt waits for it somewhere."""
    return any(a.kind == "condition" and a.state == State.WAITING for a in run.actions)


def over(run: RunState) -> bool:
    return run.finished


def command(tree: DevTree, *arguments: str) -> tuple[int, str, str]:
    """Run a command line in this process: exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(tree.folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = execute(arguments)
    return code, out.getvalue(), err.getvalue()


def json_of(tree: DevTree, *arguments: str) -> Any:
    code, out, err = command(tree, *arguments, "-o", "json")
    assert code == 0, err
    return json.loads(out)


def result(tree: DevTree, name: str) -> Any:
    run = until(tree, name, over)
    assert run.phase == "SUCCEEDED", run.error
    return json_of(tree, "get", "io", name)["outputs"]["content"]


def births(tree: DevTree, name: str) -> list[Any]:
    """Return what was asked for in this run's log, also by attempts that came later."""

    async def body() -> list[Any]:
        async with tree.connected() as connection:
            found = await wait_for_run(connection, name, lambda run: True)
            return [
                event
                for key, _, event in events_of(await whole_log(connection))
                if key == found.id and isinstance(event, ConditionOpened | ActionRequested)
            ]

    return asyncio.run(body())


def test_the_command_line_shows_a_condition_and_answers_it_once(tree: DevTree) -> None:
    start(tree, "ask", "told", about="how-many")
    until(tree, "told", asks)
    (shown,) = json_of(tree, "get", "condition", "told")
    assert (shown["name"], shown["phase"], shown["type"]) == ("how-many", "PAUSED", "int")
    assert [run["name"] for run in json_of(tree, "get", "run", "--paused-only")] == ["told"]
    assert [each["run"] for each in json_of(tree, "get", "conditions")] == ["told"]
    assert command(tree, "signal", "condition", "told", "nothing", "1")[0] == 4
    assert command(tree, "signal", "condition", "told", "how-many", "many")[0] == 2
    assert command(tree, "signal", "condition", "told", "how-many", "1.5")[0] == 2
    answered = json_of(tree, "signal", "condition", "told", "how-many", "7")
    assert (answered["value"], answered["signalled"]) == (7, True)
    assert result(tree, "told") == 7
    assert command(tree, "signal", "condition", "told", "how-many", "7")[0] == 0
    declined = command(tree, "signal", "condition", "told", "a1", "8")
    assert (declined[0], declined[2]) == (
        3, "declined: condition 'how-many' was answered with 7 already\n"
    )  # fmt: skip
    assert json_of(tree, "get", "run", "--paused-only") == []


def test_who_waits_for_a_person_holds_no_slot(tree: DevTree) -> None:
    start(tree, "ask", "holder", about="slot")
    until(tree, "holder", asks)
    ended = tree.run("run", "ask.py", "quick", "--n", "5", "-o", "json")
    assert json.loads(ended.stdout)["outputs"] == [5]
    command(tree, "abort", "action", "holder", "a1", "--reason", "no answer needed")
    run = until(tree, "holder", over)
    assert (run.phase, run.error and run.error.type) == ("FAILED", "ActionAbortedError")


def test_a_webhook_is_told_where_the_answer_goes(tree: DevTree) -> None:
    with hook() as (url, posts):
        start(tree, "ask", "hooked", about="hook", hook=url)
        (uri,) = posts.get(timeout=20)["to"]
        assert command(tree, "signal", "condition", uri, "3")[0] == 0
    assert result(tree, "hooked") == 3
    (shown,) = json_of(tree, "get", "condition", "hooked")
    assert shown["webhook_outcome"] == "delivered"


def test_a_paused_run_starts_nothing_until_it_is_resumed(tree: DevTree) -> None:
    start(tree, "chain", "held", n=4)
    until(tree, "held", asks)
    assert json_of(tree, "pause", "run", "held", "--reason", "look first")["paused"] is True
    assert [run["name"] for run in json_of(tree, "get", "run", "--paused-only")] == ["held"]
    command(tree, "signal", "condition", "held", "first", "yes")
    run = until(tree, "held", lambda run: len(run.actions) == 3)
    assert (run.shown_phase, run.actions[2].state) == ("PAUSED", State.READY)
    # Work of another run passes it.
    assert tree.run("run", "ask.py", "quick", "--n", "1").returncode == 0
    run = until(tree, "held", lambda run: len(run.actions) == 3)
    assert run.actions[2].dispatched_ns == 0
    assert json_of(tree, "resume", "run", "held")["paused"] is False
    assert result(tree, "held") == 4


def test_a_killed_worker_and_a_killed_scheduler_lose_no_condition(tree: DevTree) -> None:
    start(tree, "ask", "worker", about="survives")
    until(tree, "worker", asks)
    for pid in tree.workers():
        os.kill(pid, signal.SIGKILL)
    until(tree, "worker", lambda run: run.actions[0].attempt == 2)
    tree.kill("scheduler")
    assert command(tree, "signal", "condition", "worker", "survives", "9")[0] == 0
    assert result(tree, "worker") == 9
    assert len(births(tree, "worker")) == 1


def test_a_timeout_counts_from_the_opening_whatever_is_killed_meanwhile(tree: DevTree) -> None:
    start(tree, "ask", "late", about="late", timeout=1.5)
    until(tree, "late", asks)
    tree.kill("scheduler")
    run = until(tree, "late", over)
    assert (run.phase, run.error and run.error.type) == ("FAILED", "ConditionTimedoutError")
    (opened,) = births(tree, "late")
    waited_ms = run.actions[1].ended_ns // 1_000_000 - opened.due_ms
    assert waited_ms >= 0
    assert opened.extras.timeout_ms == 1_500


def test_an_answer_survives_the_scheduler_that_took_it(tree: DevTree) -> None:
    start(tree, "ask", "answered", about="kept")
    until(tree, "answered", asks)
    assert command(tree, "signal", "condition", "answered", "kept", "6")[0] == 0
    tree.kill("scheduler")
    assert result(tree, "answered") == 6
    assert command(tree, "signal", "condition", "answered", "kept", "6")[0] == 0


def test_the_log_of_it_all_keeps_every_invariant(tree: DevTree) -> None:
    async def body() -> None:
        async with tree.connected() as connection:
            report = audit(await whole_log(connection), quiescent=True)
        assert report.violations == ()

    asyncio.run(body())


@contextlib.contextmanager
def hook() -> Iterator[tuple[str, "queue.Queue[Any]"]]:
    """Take webhooks on a port of this machine; the first call of each is turned away."""
    posts: queue.Queue[Any] = queue.Queue()
    calls: list[str] = []

    class Taker(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            calls.append(self.headers["Idempotency-Key"])
            self.send_response(503 if len(calls) == 1 else 200)
            self.end_headers()
            if len(calls) > 1:
                posts.put(json.loads(body))

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", posts
    finally:
        server.shutdown()
        server.server_close()
    assert len(set(calls)) == 1
