"""Leaders killed while they walk a plan: nothing is lost, and no node that succeeded runs again."""

import asyncio
from pathlib import Path

import fault_flow as flow
import pytest
from parts import parts

from millstream_events import model as m
from millstream_events.plans import KIND_GRAPH

pytestmark = pytest.mark.chaos

NODES = 21


def expected() -> int:
    before: list[int] = []
    for layer in range(5):
        before = [4 * layer + place + sum(before) for place in range(4)]
    return 20 + sum(before)


@pytest.mark.alone
async def test_leaders_killed_in_mid_plan_lose_nothing_and_rerun_no_node(tmp_path: Path) -> None:
    async with parts(tmp_path, schedulers=2) as made:
        await made.warm(flow.leaf, 0)
        run = await made.submit(flow.net, 0.1)
        for _ in range(3):
            await made.next_success(run)
            leader = await made.leader()
            leader.kill()
            leader.start()
        assert await made.succeeded(run) < NODES, "the run was over before the last kill"
        assert await made.result(flow.net, run) == expected()
        counts = made.executions("knot-")
        assert len(counts) == NODES
        assert set(counts.values()) == {1}, counts
        events = await made.events(run)
        requests = [event for event in events if isinstance(event, m.ActionRequested)]
        assert sorted(event.node for event in requests) == list(range(1, NODES + 1))
        (created,) = (event for event in events if isinstance(event, m.RunCreated))
        assert created.kind == KIND_GRAPH
        dispatched = {event.action for event in events if isinstance(event, m.AttemptDispatched)}
        assert 0 not in dispatched, "the graph itself was given to a worker"
        await made.audited()


async def test_an_agent_killed_in_mid_plan_costs_its_own_attempts_alone(tmp_path: Path) -> None:
    async with parts(tmp_path) as made:
        await made.warm(flow.leaf, 0)
        run = await made.submit(flow.net, 0.1)
        await made.next_success(run)
        done = {what for what, _ in made.trail if what.startswith("knot-")}
        agent = made.agents[0]
        agent.kill()
        await asyncio.sleep(0)
        agent.start()
        assert await made.result(flow.net, run) == expected()
        counts = made.executions("knot-")
        again = {what for what, count in counts.items() if count > 1}
        assert len(counts) == NODES
        assert len(again) <= 4, (again, done)  # A layer at most was under way.
        await made.audited()
