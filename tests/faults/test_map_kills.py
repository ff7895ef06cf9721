"""`kill -9` amid a long map: every item's result is right, and nothing finished runs again."""

import os
import signal
import time
from pathlib import Path

import fault_flow as flow
import pytest
from parts import Parts, parts

from millstream_events import model as m
from millstream_events.map_items import decode_item_inputs
from millstream_events.values import Inline

pytestmark = pytest.mark.chaos

ITEMS, SECONDS = 3_000, 0.001


def items_of(requested: m.ActionRequested) -> set[int]:
    """Return the numbers of the items that an action runs."""
    assert isinstance(requested.inputs, Inline)
    inputs = decode_item_inputs(requested.inputs.content)
    return set(range(inputs.first, inputs.first + len(inputs.contents)))


def finished_items(events: list[m.Event]) -> set[int]:
    """Return the items of the actions that have succeeded."""
    asked = {e.action: e for e in events if isinstance(e, m.ActionRequested)}
    done = [e.action for e in events if isinstance(e, m.AttemptSucceeded) and e.action in asked]
    return {item for action in done for item in items_of(asked[action])}


async def kill(rig: Parts, victim: str) -> None:
    if victim in ("worker", "parent"):
        mark = "item-" if victim == "worker" else "long-map"
        pid = next(pid for what, pid in reversed(rig.trail) if what.startswith(mark))
        os.kill(pid, signal.SIGKILL)
        return
    part = rig.agents[0] if victim == "agent" else await rig.leader()
    part.kill()
    part.start()


@pytest.mark.alone
@pytest.mark.parametrize(
    ("victim", "succeeded"),
    [("worker", 1), ("worker", 12), ("parent", 12), ("agent", 12), ("scheduler", 1)],
)
async def test_a_long_map_survives_and_its_finished_actions_do_not_run_again(
    tmp_path: Path, victim: str, succeeded: int
) -> None:
    async with parts(tmp_path) as rig:
        run = await rig.submit(flow.long_map, ITEMS, SECONDS)
        await rig.until(run, lambda state: state.succeeded >= succeeded)
        finished = finished_items(await rig.events(run))
        await kill(rig, victim)
        assert await rig.result(flow.long_map, run) == sum(n * n for n in range(ITEMS))
        events = await rig.events(run)
        ran = rig.executions("item-")
        parents = rig.executions("long-map")["long-map"]
        await rig.audited()
    assert len(finished) < ITEMS, "it was killed too late"
    asked = [event for event in events if isinstance(event, m.ActionRequested)]
    assert {event.kind for event in asked} == {"map"}
    assert sorted(item for event in asked for item in items_of(event)) == list(range(ITEMS))
    assert len(ran) == ITEMS
    again = {item for item in finished if ran[f"item-{item}"] > 1}
    assert not again, "what had finished ran again"
    lost = sum(isinstance(event, m.AttemptLost) for event in events)
    assert max(ran.values()) <= 1 + lost
    if victim == "scheduler":
        assert max(ran.values()) == 1
    if victim == "parent":
        assert parents == 2, "it began again, and found what was there"


async def test_an_item_that_kills_its_worker_fails_alone(tmp_path: Path) -> None:
    async with parts(tmp_path) as rig:
        run = await rig.submit(flow.poisoned_map, 1_000, system_retries=50)
        assert await rig.result(flow.poisoned_map, run) == [700]
        await rig.audited()


async def test_an_aborted_map_ends_between_two_items(tmp_path: Path) -> None:
    async with parts(tmp_path) as rig:
        run = await rig.submit(flow.long_map, 20_000, SECONDS)
        await rig.until(run, lambda state: state.succeeded >= 3)
        began_s = time.monotonic()
        await rig.client.abort_run(run, "enough")
        release = await rig.released(run)
        print(f"\nan aborted map: over after {time.monotonic() - began_s:.2f} s")
        assert release.phase == "ABORTED"
        state = await rig.until(run, lambda state: state.finished)
        assert {action.phase for action in state.actions} == {"SUCCEEDED", "ABORTED"}
        ran = rig.executions("item-")
        assert len(ran) < 20_000
        await rig.audited()
