"""A leader killed at every step: nothing left early, nothing is lost, nothing happens twice."""

import pytest
from leader_rig import RUN, Rig, ScriptAgent, ScriptClient, entries_of, until

from millstream_events.audit import audit
from millstream_events.ids import ROOT_ID, child_id
from millstream_events.phases import Phase
from millstream_events.state import state_hash
from millstream_events.values import Inline

pytestmark = pytest.mark.set_time

#: Steps (publications, appends, answers) of the scripted run, with some to spare.
STEPS_MAX = 60
BATCH = 10


def expected() -> Inline:
    """Return what the script's root returns: the ids of its two children."""
    calls = (
        child_id(ROOT_ID, task_identity=b"c", inputs_hash=b"h", group="", k=k) for k in range(2)
    )
    return Inline("x", b"".join(calls))


async def history(die_at: int, *, lose_in_flight: bool, once: bool = False) -> int:
    """Run the script with a leader that dies at one step; return the steps it took."""
    rig = Rig()
    agent = ScriptAgent(rig, once=once)
    client = ScriptClient(rig)
    client.submit()
    await rig.lead(die_at=die_at, lose_in_flight=lose_in_flight)
    first = rig.fuse
    await until(lambda: client.released or first.blown.is_set())
    leader = rig.leaders[0]
    if first.blown.is_set():
        await rig._funeral
        leader = await rig.lead()
        await until(lambda: client.released)
    await until(lambda: leader.quiet)
    assert rig.early == []
    outcomes = {(each.phase, each.output) for each in client.released}
    ((phase, output),) = outcomes
    assert phase == Phase.SUCCEEDED
    if not once:
        assert output == expected()
    entries = entries_of(rig.records)
    report = audit(entries, quiescent=True)
    assert report.violations == (), (die_at, report.violations)
    replayed = rig.replayed()
    assert state_hash(leader._state) == state_hash(replayed)
    assert replayed.runs[RUN].output == output
    once_only = [work.id for work in agent.starts if work.policy and not work.policy.idempotent]
    assert len(set(once_only)) == len(once_only)
    rig.stop()
    return first.steps


async def test_the_undisturbed_script_takes_fewer_steps_than_are_tried() -> None:
    assert 12 < await history(0, lose_in_flight=False) < STEPS_MAX


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("lose_in_flight", [False, True])
@pytest.mark.parametrize("batch", range(0, STEPS_MAX, BATCH))
async def test_a_leader_killed_at_any_step_changes_no_result(
    batch: int, lose_in_flight: bool, once: bool
) -> None:
    for die_at in range(batch + 1, batch + BATCH + 1):
        await history(die_at, lose_in_flight=lose_in_flight, once=once)
