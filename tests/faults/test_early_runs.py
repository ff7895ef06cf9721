"""Runs that their client has sent to an agent as well, while agent and leader stop and die."""

import asyncio
import time
from pathlib import Path

import fault_flow as flow
import pytest
from parts import parts, record

from millstream_events import model as m

pytestmark = [pytest.mark.chaos, pytest.mark.alone]

SILENCE = {"agent_stale_ms": 1_000, "agent_lost_ms": 3_000}
#: So many let the leader know that runs are short.
WARM_RUNS = 30
RUNS = 80


async def test_a_run_that_was_sent_to_an_agent_which_stands_still_ends_on_another_one(
    tmp_path: Path,
) -> None:
    async with parts(tmp_path, **SILENCE) as made:
        for _ in range(WARM_RUNS):
            await made.run(flow.leaf, 1, 0.0)
        made.agent()
        await made.present("a1")
        await made.run(flow.leaf, 2, 0.0)
        last = (await made.events())[-3:]
        host = next(e.agent for e in last if isinstance(e, m.AttemptDispatched))
        frozen = next(part for part in made.agents if part.name == host)
        frozen.freeze()
        began_s = time.monotonic()
        try:
            end = await made.run(flow.leaf, 7, 0.0)
        finally:
            frozen.thaw()
        record("agent frozen as a run was sent to it", time.monotonic() - began_s)
        assert end.phase == "SUCCEEDED"
        await made.present(host)
        assert (await made.run(flow.leaf, 8, 0.0)).phase == "SUCCEEDED"
        await made.audited()


@pytest.mark.parametrize("whom", ["scheduler", "agent"])
async def test_whoever_is_killed_while_runs_follow_each_other_every_one_ends_well(
    tmp_path: Path, whom: str
) -> None:
    async with parts(tmp_path, **SILENCE) as made:
        for _ in range(WARM_RUNS):
            await made.run(flow.leaf, 1, 0.0)
        victim = made.schedulers[0] if whom == "scheduler" else made.agents[0]

        async def kills() -> None:
            for n in (20, 50):
                await made.marked(f"end-{100 + n}")
                victim.kill()
                victim.start()

        killing = asyncio.create_task(kills())
        for n in range(RUNS):
            end = await made.run(flow.leaf, 100 + n, 0.0)
            assert end.phase == "SUCCEEDED", (n, end)
        await killing
        ran = made.executions("end-")
        del ran["end-1"]  # Of the first runs, which all had the same number.
        again = sum(count > 1 for count in ran.values())
        # Only what was under way at a kill may have run without a record of it.
        assert again <= 2
        await made.audited()
