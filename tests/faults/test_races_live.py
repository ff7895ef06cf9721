"""Aborts and time limits that race completion: the log picks one winner, and it stays."""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fault_flow as flow
import pytest
from dev_tree import events_of
from parts import Parts, gone, parts

from millstream_events import model as m
from millstream_events.phases import TERMINAL_PHASES, State

pytestmark = [pytest.mark.chaos, pytest.mark.alone]


async def assert_one_end_each(made: Parts, runs: list[str]) -> None:
    """Every run has exactly one end of its root and one of its own."""
    events: dict[str, list[m.Event]] = {run: [] for run in runs}
    for key, _, event in events_of(await made.log()):
        if key in events:
            events[key].append(event)
    for run, of_run in events.items():
        finished = [event for event in of_run if isinstance(event, m.RunFinished)]
        assert len(finished) == 1, run
        assert finished[0].phase in TERMINAL_PHASES


async def test_an_abort_that_races_completion_has_one_winner(tmp_path: Path) -> None:
    trials = 60
    rng = random.Random(7)
    async with parts(tmp_path) as made:
        await made.warm(flow.leaf, 0)
        wait_s = 0.02
        won: Counter[str] = Counter()
        runs = []
        for number in range(trials):
            run = await made.submit(flow.leaf, number + 1, 0.02)
            await asyncio.sleep(max(0.0, wait_s + rng.uniform(0, 0.005)))
            await made.client.abort_run(run)
            release = await made.released(run)
            won[release.phase] += 1
            # Steered towards the instant at which both may win.
            wait_s += 0.002 if release.phase == "ABORTED" else -0.002
            runs.append(run)
        print(f"\nabort against completion: {dict(won)}")
        assert set(won) == {"SUCCEEDED", "ABORTED"}
        assert min(won.values()) >= 3, won
        await assert_one_end_each(made, runs)
        await made.audited()
        after = await made.submit(flow.chain, 3)
        assert await made.result(flow.chain, after) == 5


async def test_a_time_limit_that_races_completion_has_one_winner(tmp_path: Path) -> None:
    trials = 30
    rng = random.Random(8)
    async with parts(tmp_path) as made:
        await made.warm(flow.leaf, 0)
        body_s = 0.06
        won: Counter[str] = Counter()
        runs = []
        for number in range(trials):
            seconds = max(0.0, body_s + rng.uniform(0, 0.005))
            run = await made.submit(flow.leaf, number + 1, seconds, runtime_max_ms=60)
            release = await made.released(run)
            won[release.phase] += 1
            body_s += 0.003 if release.phase == "SUCCEEDED" else -0.003
            runs.append(run)
        print(f"\ntime limit against completion: {dict(won)}")
        assert set(won) == {"SUCCEEDED", "TIMED_OUT"}
        assert min(won.values()) >= 3, won
        await assert_one_end_each(made, runs)
        await made.audited()


@pytest.mark.parametrize("task", [flow.stubborn, flow.blocked], ids=["stubborn", "blocked"])
async def test_no_process_of_an_aborted_action_outlives_its_grace_by_2_s(
    tmp_path: Path, task: Any
) -> None:
    grace_ms = 500
    async with parts(tmp_path) as made:
        run = await made.submit(task, 1, grace_ms=grace_ms)
        name = task.func.__name__
        worker = await made.marked(f"{name}-1")
        await made.until(run, lambda state: state.actions[0].state == State.RUNNING)
        aborted_s = time.monotonic()
        await made.client.abort_run(run)
        print(f"\nabort accepted after {time.monotonic() - aborted_s:.3f} s")
        while not gone(worker):
            assert time.monotonic() - aborted_s < grace_ms / 1000 + 2
            await asyncio.sleep(0.02)
        print(f"its process was gone after {time.monotonic() - aborted_s:.2f} s")
        assert (await made.released(run)).phase == "ABORTED"
        after = await made.submit(flow.chain, 3)
        assert await made.result(flow.chain, after) == 5
        await made.audited()
