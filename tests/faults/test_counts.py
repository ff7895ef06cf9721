"""What an action costs, counted: messages, bytes, frames and calls, against `limits.toml`.

Counts, not clocks: a slow machine cannot fail these, and a message too many cannot pass.
"""

import sys
import tomllib
from pathlib import Path

import fault_flow
import pytest
from parts import SHARD, parts

from millstream_events.codec import decode_frame
from millstream_events.connect import connect

pytestmark = pytest.mark.alone

LIMITS = tomllib.loads((Path(__file__).parent.parent / "limits.toml").read_text())
CHILDREN = {"chain": 200, "fan": 2_000, "light_map": 20_000}


class Spy:
    """Counts every message that passes the server."""

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0

    def hear(self, subject: str, payload: bytes) -> None:
        """Count one message."""
        self.messages += 1
        self.bytes += len(subject) + len(payload)


@pytest.mark.parametrize("shape", CHILDREN)
async def test_an_action_costs_no_more_than_its_limits(shape: str, tmp_path: Path) -> None:
    task = getattr(fault_flow, shape)
    async with parts(tmp_path) as rig:
        await rig.warm(task, 20, 0.0)
        spying = await connect(rig.nats.endpoint, name="spy")
        spy = Spy()
        spying.bus.subscribe(">", spy.hear)
        await spying.ensure_streams(SHARD)  # With it the subscription has reached the server.
        spy.messages = spy.bytes = 0
        children = CHILDREN[shape]
        run = await rig.submit(task, children, 0.0)
        await rig.released(run)
        await spying.close()
        entries = [entry for entry in await rig.log() if entry.key == run]
    events = sum(len(decode_frame(e.payload, key=e.key, seq=e.seq).events) for e in entries)
    counted = {
        "bus_messages": spy.messages,
        "bus_bytes": spy.bytes,
        "frames": len(entries),
        "events": events,
    }
    # The run's own birth, heartbeats and the like are no child's doing.
    spare = {"bus_messages": 60, "bus_bytes": 60_000, "frames": 8, "events": 8}
    costs = {name: round((value - spare[name]) / children, 3) for name, value in counted.items()}
    print(shape, costs, file=sys.stderr)
    over = {name: cost for name, cost in costs.items() if cost > LIMITS[shape][name]}
    assert not over, (costs, LIMITS[shape])
