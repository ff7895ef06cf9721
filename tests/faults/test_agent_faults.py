"""Agents frozen, cut off and killed: late words are void, and finished work is not done again."""

import asyncio
import os
import signal
import sqlite3
import time
from pathlib import Path

import fault_flow as flow
import pytest
from hole_proxy import HoleProxy
from parts import parts, record

from millstream_events import model as m
from millstream_events.phases import State

pytestmark = pytest.mark.chaos

#: The agents' heartbeat comes each second, so the limits cannot be much shorter.
SILENCE = {"agent_stale_ms": 1_000, "agent_lost_ms": 3_000}


@pytest.mark.parametrize("worker_too", [True, False])
async def test_an_agent_frozen_beyond_the_limit_is_replaced_and_its_late_words_are_void(
    tmp_path: Path, worker_too: bool
) -> None:
    async with parts(tmp_path, **SILENCE) as made:
        await made.warm(flow.mixed, 0, 0.0)
        run = await made.submit(flow.mixed, 7, 1.5)
        finishing = await made.submit(flow.leaf, 8, 1.0)
        worker = await made.marked("mixed-7")
        await made.marked("leaf-8")
        await made.until(run, lambda state: state.actions[0].state == State.RUNNING)
        made.agents[0].freeze()
        if worker_too:
            os.kill(worker, signal.SIGSTOP)
        frozen_s = time.monotonic()
        made.agent()
        try:
            await made.marked("mixed-7", 2)
            record("agent frozen, limit 3 s: another started the body", time.monotonic() - frozen_s)
        finally:
            # The old body wakes up while the new one waits: its child and its step come first.
            if worker_too:
                os.kill(worker, signal.SIGCONT)
            made.agents[0].thaw()
        assert await made.result(flow.mixed, run) == 21 + 49
        assert await made.result(flow.leaf, finishing) == 64
        await made.present("a0")
        events = await made.events(run)
        lost = [event for event in events if isinstance(event, m.AttemptLost)]
        assert [(event.action, event.why) for event in lost] == [(0, "agent-silent")]
        assert lost[0].silence_ms > lost[0].limit_ms == 3_000
        # One step and one child, both of the second attempt.
        assert len([e for e in events if isinstance(e, m.ActionRequested)]) == 1
        assert len([e for e in events if isinstance(e, m.TraceRecorded)]) == 1
        assert made.executions("leaf-7") == {"leaf-7": 1}
        # The old body did go on and speak: without that there was nothing to refuse.
        steps = [pid for what, pid in made.trail if what == "step-7"]
        assert len(steps) == len(set(steps)) == 2
        after = await made.submit(flow.chain, 3)
        assert await made.result(flow.chain, after) == 5
        await made.audited()


@pytest.mark.parametrize("hole", ["both", "up", "down", "half-open"])
async def test_a_partition_shorter_than_the_limit_costs_time_only(
    tmp_path: Path, hole: str
) -> None:
    length = 20
    async with parts(tmp_path, agents=0) as made:
        proxy = await HoleProxy(made.nats.port).start()
        try:
            made.agent(port=proxy.port)
            await made.warm(flow.chain, 0)
            run = await made.submit(flow.chain, length, 0.05)
            await made.until(run, lambda state: state.succeeded >= 4)
            if hole == "half-open":
                proxy.mute = True
                proxy.reset()
            else:
                proxy.hole_up = hole in ("both", "up")
                proxy.hole_down = hole in ("both", "down")
            await asyncio.sleep(2.5)
            healed_s = time.monotonic()
            proxy.mute = proxy.hole_up = proxy.hole_down = False
            await made.next_success(run)
            record(f"agent cut off for 2.5 s ({hole})", time.monotonic() - healed_s)
            assert await made.result(flow.chain, run) == sum(n * n for n in range(length))
            assert set(made.executions("leaf-").values()) == {1}
            assert not [e for e in await made.events(run) if isinstance(e, m.AttemptLost)]
            await made.audited()
        finally:
            await proxy.close()


def spooled(path: Path) -> int:
    """Return how many outcomes an agent's spool holds."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        (count,) = db.execute("SELECT count(*) FROM outcome").fetchone()
    db.close()
    return int(count)


async def test_outcomes_that_no_leader_heard_survive_the_agent_that_has_them(
    tmp_path: Path,
) -> None:
    width = 4
    async with parts(tmp_path) as made:
        await made.warm(flow.leaf, 99, 0.0)
        run = await made.submit(flow.fan, width, 1.5)
        for n in range(width):
            await made.marked(f"leaf-{n}")
        await made.until(run, lambda state: len(state.actions) == width + 1)
        # Killed, not frozen: a frozen one would read the reports from its socket afterwards.
        made.schedulers[0].kill()
        for n in range(width):
            await made.marked(f"end-{n}")
        end_s = time.monotonic() + 30
        while spooled(tmp_path / "a0" / "spool" / "a0.sqlite") < width:
            assert time.monotonic() < end_s
            await asyncio.sleep(0.05)
        made.agents[0].kill()
        ended = [e for e in await made.events(run) if isinstance(e, m.AttemptSucceeded)]
        assert not ended, "the log knows already, so nothing would show that the spool does"
        made.schedulers[0].start()
        made.agents[0].start()
        started_s = time.monotonic()
        assert await made.result(flow.fan, run) == sum(n * n for n in range(width))
        print(
            f"\nscheduler and agent started, 4 outcomes in the spool: the run ended after "
            f"{time.monotonic() - started_s:.2f} s"
        )
        counts = made.executions("leaf-")
        assert set(counts.values()) == {1}, counts
        assert made.executions("fan") == {"fan": 2}
        await made.audited()
