"""What the leader says ahead of an acknowledgement, behind a gate that the log opens."""

import asyncio

import pytest
from leader_rig import RUN, Rig, ScriptAgent, ScriptClient, until

from millstream_events import memory_log
from millstream_events.memory_faults import AppendFault, FaultPlan
from millstream_events.phases import Phase

pytestmark = pytest.mark.set_time


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_log, "APPEND_DEADLINE_S", 0.02)


async def test_a_run_goes_through_gates_and_nothing_passes_one_before_its_event_is_stored() -> None:
    rig = Rig()
    ScriptAgent(rig)
    client = ScriptClient(rig)
    await rig.lead()
    client.submit()
    await until(lambda: client.released)
    assert rig.gates_opened >= 2
    assert rig.early == []
    rig.stop()


async def test_an_answer_arrives_though_its_leader_dies_before_the_acknowledgement_reaches_it() -> (
    None
):
    rig = Rig()
    client = ScriptClient(rig)
    # Steps of its life: it announces itself, says what waits behind the gate, appends; its own
    # copy of the acknowledgement is one step too many.
    await rig.lead(die_at=4)
    client.submit()
    await until(lambda: client.accepted() == [RUN])
    assert rig.fuse.blown.is_set()
    assert rig.log.told_seq < rig.records.last_seq
    assert rig.gates_opened == 1
    assert rig.early == []
    rig.stop()


@pytest.mark.parametrize("fault", AppendFault, ids=lambda fault: fault.name)
async def test_after_any_doubt_the_leader_itself_says_what_turned_out_to_be_true(
    fault: AppendFault,
) -> None:
    await asyncio.gather(*(doubtful(fault, at) for at in range(1, 7)))


async def doubtful(fault: AppendFault, at: int) -> None:
    rig = Rig()
    ScriptAgent(rig)
    client = ScriptClient(rig)
    await rig.lead(plan=FaultPlan(appends={at: fault}, delay_s=0.01))
    client.submit()
    await until(lambda: client.released, deadline_s=15)
    assert client.released[0].phase == Phase.SUCCEEDED
    assert rig.early == []
    rig.stop()
