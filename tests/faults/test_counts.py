"""What an action costs, counted: messages, bytes, frames and calls, against `limits.toml`.

Counts, not clocks: a slow machine cannot fail these, and a message too many cannot pass.
"""

import contextlib
import sys
import tomllib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import fault_flow
import pytest
from parts import SHARD, Parts, parts

from millstream_events.codec import decode_frame
from millstream_events.connect import connect
from millstream_events.model import AttemptReturned
from millstream_events.ports import LogEntry

pytestmark = pytest.mark.alone

LIMITS = tomllib.loads((Path(__file__).parent.parent / "limits.toml").read_text())
#: So many tell leader and agent that tasks are short.
WARM_RUNS = 50
RUNS = 300
CHILDREN = {"chain": 200, "fan": 2_000, "light_map": 20_000}


class Spy:
    """Counts every message that passes the server."""

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.orders = 0

    def hear(self, subject: str, payload: bytes) -> None:
        """Count one message."""
        self.messages += 1
        self.bytes += len(subject) + len(payload)
        self.orders += ".work." in subject


@contextlib.asynccontextmanager
async def spied(rig: Parts) -> AsyncIterator[Spy]:
    """Count what passes the server meanwhile."""
    spying = await connect(rig.nats.endpoint, name="spy")
    spy = Spy()
    spying.bus.subscribe(">", spy.hear)
    await spying.ensure_streams(SHARD)  # With it the subscription has reached the server.
    spy.messages = spy.bytes = spy.orders = 0
    yield spy
    await spying.close()


def assert_within_limits(shape: str, spy: Spy, entries: Sequence[LogEntry], count: int) -> None:
    """Compare what one action has cost with `limits.toml`."""
    frames = [decode_frame(entry.payload, key=entry.key, seq=entry.seq) for entry in entries]
    recorded = [event for frame in frames for event in frame.events]
    # On a loaded machine work waits for a slot until it goes back, and is dispatched once more.
    returned = sum(isinstance(event, AttemptReturned) for event in recorded)
    counted = {
        "bus_messages": spy.messages,
        "bus_bytes": spy.bytes,
        "frames": len(entries),
        "events": len(recorded) - 2 * returned,
        "orders": spy.orders,
    }
    # A parent's own birth, heartbeats and the like are no action's doing.
    spare = {"bus_messages": 60, "bus_bytes": 60_000, "frames": 8, "events": 8, "orders": 8}
    costs = {name: round((value - spare[name]) / count, 3) for name, value in counted.items()}
    print(shape, costs, file=sys.stderr)
    over = {name: cost for name, cost in costs.items() if cost > LIMITS[shape].get(name, cost)}
    assert not over, (costs, LIMITS[shape])


@pytest.mark.parametrize("shape", CHILDREN)
async def test_an_action_costs_no_more_than_its_limits(shape: str, tmp_path: Path) -> None:
    task = getattr(fault_flow, shape)
    children = CHILDREN[shape]
    async with parts(tmp_path) as rig:
        await rig.warm(task, 20, 0.0)
        async with spied(rig) as spy:
            run = await rig.submit(task, children, 0.0)
            await rig.released(run)
        entries = [entry for entry in await rig.log() if entry.key == run]
    assert_within_limits(shape, spy, entries, children)


async def test_a_run_of_its_own_costs_no_more_than_its_limits(tmp_path: Path) -> None:
    async with parts(tmp_path) as rig:
        for _ in range(WARM_RUNS):
            await rig.run(fault_flow.leaf, 1, 0.0)
        before = len(await rig.log())
        async with spied(rig) as spy:
            for n in range(RUNS):
                end = await rig.run(fault_flow.leaf, n, 0.0)
                assert end.phase == "SUCCEEDED"
        entries = (await rig.log())[before:]
    assert_within_limits("run", spy, entries, RUNS)
