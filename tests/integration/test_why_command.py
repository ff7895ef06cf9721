"""`millstream why`: causes of attempts, retries, waits, hits and aborts, from the log alone."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from dev_tree import DevTree, dev_tree

PROGRAM = """
import asyncio
import os
import millstream
from millstream import Cache

env = millstream.TaskEnvironment("why")

@env.task(retries=2)
async def flaky() -> int:
    if millstream.ctx().attempt_number < 1:
        raise ValueError("not yet")
    return 1

@env.task(cache=Cache(behavior="auto", version_override="1"))
async def cached(n: int) -> int:
    return n

@env.task(queue="narrow")
async def slow(n: int) -> int:
    await asyncio.sleep(0.5)
    return n

@env.task
async def endless() -> None:
    await asyncio.Event().wait()

@env.task(retries=1)
async def doomed() -> None:
    raise KeyError("never")

@env.task
async def dies() -> int:
    if millstream.ctx().attempt_number < 1:
        os._exit(9)
    return 1

@env.task
async def main() -> None:
    await flaky()
    await cached(1)
    await cached(1)
    await asyncio.gather(slow(1), slow(2))
    try:
        async with asyncio.timeout(0.3):
            await endless()
    except TimeoutError:
        pass
    try:
        await doomed()
    except KeyError:
        pass
    await dies()
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    folder = tmp_path_factory.mktemp("why")
    (folder / "causes.py").write_text(PROGRAM)
    with dev_tree(folder, "--slots", "4", "--workers", "2") as made:
        assert made.run("create", "queue", "narrow", "--action-concurrency", "1").returncode == 0
        ended = made.run("run", "causes.py", "main", "--name", "whole")
        assert ended.returncode == 0, ended.stderr
        yield made


def why(tree: DevTree, action: str) -> dict[str, Any]:
    ended = tree.run("why", "whole", action, "-o", "json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize(
    ("action", "task", "answer"),
    [
        ("a1", "why.flaky", "it succeeded in attempt 2 after 1 failed"),
        ("a3", "why.cached", "the result of a2 of "),
        ("a6", "why.endless", "abort: its caller cancelled the call"),
        ("a7", "why.doomed", "it failed after 2 failed, and no attempt is left (retries=1)"),
        ("a8", "why.dies", "it succeeded in attempt 2 after 1 lost"),
    ],
)
def test_one_sentence_says_how_an_action_came_to_its_end(
    tree: DevTree, action: str, task: str, answer: str
):
    found = why(tree, action)
    assert (found["action"], found["task"]) == (action, task)
    assert found["answer"].startswith(answer)


def test_a_retry_names_its_cause_and_what_pays_for_it(tree: DevTree):
    steps = why(tree, "a1")["steps"]
    retry = next(step for step in steps if step["type"] == "RetryScheduled")
    failed = next(step for step in steps if step["type"] == "AttemptFailed")
    assert retry["cause"] == failed["rev"]
    assert retry["text"] == "attempt 2 was decided, paid by retries=2"


def test_a_wait_names_the_limit_that_was_hit_and_who_filled_it(tree: DevTree):
    waits = [
        step
        for action in ("a4", "a5")
        for step in why(tree, action)["steps"]
        if step.get("waited_ms", 0) >= 400
    ]
    (wait,) = waits
    (reason,) = wait["waited_for"]
    assert reason.startswith("held by queue narrow action_concurrency=1, config v")
    assert "a4 ran" in reason or "a5 ran" in reason


def test_causes_lead_back_to_the_client_that_asked(tree: DevTree):
    causes = why(tree, "a8")["causes"]
    revs = [step["rev"] for step in causes]
    assert revs == sorted(revs, reverse=True)
    assert [step["cause"] for step in causes[:-1]] == revs[1:]
    assert causes[-1]["type"] == "RunCreated"
    assert causes[-1]["text"].startswith("the run was accepted from ")


def test_a_cache_miss_is_told_from_a_hit(tree: DevTree):
    miss, hit = why(tree, "a2")["cache"], why(tree, "a3")["cache"]
    assert (miss["key"], miss["text"]) == (hit["key"], "none was there")
    assert hit["text"] == "an earlier result was taken"
    assert why(tree, "a1")["cache"] is None


def test_the_text_is_not_cut_and_unknown_actions_are_named(tree: DevTree):
    ended = tree.run("why", "whole", "a7")
    assert "attempt 2 was decided, paid by retries=1  <- #" in ended.stdout
    assert tree.run("why", "whole", "a77").returncode == 4
    assert tree.run("why", "nowhere").returncode == 4


def test_what_waits_now_says_what_for(tree: DevTree):
    (tree.folder / "waiting.py").write_text(
        PROGRAM + "\n@env.task(pool='far')\nasync def away() -> None: ...\n"
    )
    assert tree.run("run", "waiting.py", "away", "--name", "away", "--detach").returncode == 0
    ended = tree.run("why", "away", "-o", "json")
    answer = json.loads(ended.stdout)["answer"]
    assert "far" in answer
    assert tree.run("abort", "run", "away").returncode == 0
