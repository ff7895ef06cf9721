"""Becoming the leader: the log decides, whatever the lease says."""

import asyncio

import pytest

from millstream_events import memory_log
from millstream_events import model as m
from millstream_events.clock import SystemClock
from millstream_events.errors import LogFullError, LogUnavailableError, StaleWriterError
from millstream_events.fold import apply, apply_shard, fold_entry
from millstream_events.ids import new_run_id
from millstream_events.memory import MemoryConnection
from millstream_events.memory_faults import AppendFault, FaultPlan
from millstream_events.memory_log import MemoryLog
from millstream_events.seal import seal
from millstream_events.state import RunState, ShardState, state_hash
from millstream_events.values import TaskRef
from millstream_scheduler.takeover import catch_up, elect

pytestmark = pytest.mark.set_time

SHARD = "lo00"
CLOCK = SystemClock()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_log, "APPEND_DEADLINE_S", 0.02)


def replayed(log: MemoryLog) -> ShardState:
    state = ShardState(SHARD)
    for entry in log.records.read(0, None, 1_000_000):
        fold_entry(state, entry)
    return state


def write_run(log: MemoryLog, state: ShardState, number: int) -> None:
    """Record a new run, as the leader that `state` belongs to would."""
    run_id = new_run_id(now_ms=1_700_000_000_000 + number, random_bits=number)
    run = state.runs[run_id] = RunState(run_id)
    append(log, state, run.id, m.RunCreated(0, run=run_id, task=TaskRef("t")))


def append(log: MemoryLog, state: ShardState, run_id: str, event: m.Event) -> None:
    """Record one more event of a run, as the leader that `state` belongs to would."""
    assert apply(state, state.runs[run_id], event, state.ts_ns)
    for frame in seal(state, {run_id: [event]}, [], now_ns=1_000):
        log.append(frame.key, frame.payload, frame.expected_seq, lambda _: None)


async def test_runs_that_are_over_let_go_of_their_actions_while_the_log_is_read() -> None:
    log = MemoryConnection().event_log(SHARD)
    leader = ShardState(SHARD)
    await elect(log, leader, node="n1", clock=CLOCK)
    for number in range(2):
        write_run(log, leader, number)
    run_id, waiting = leader.runs
    for event in (
        m.AttemptDispatched(0, 1, pool="p", agent="a", token=b"t"),
        m.AttemptSucceeded(0, 1, token=b"t", output=None, worker="w", started_ns=1, ended_ns=2),
        m.RunFinished(0, phase="SUCCEEDED", output=None, error=None),
    ):
        append(log, leader, run_id, event)
    await asyncio.sleep(0.01)
    state = ShardState(SHARD)
    await catch_up(log, state)
    assert (state.runs[run_id].phase, state.runs[run_id].actions) == ("SUCCEEDED", [])
    assert len(state.runs[waiting].actions) == 1
    assert state_hash(state) == state_hash(leader)


async def test_catching_up_folds_everything_in_pages() -> None:
    log = MemoryConnection().event_log(SHARD)
    leader = ShardState(SHARD)
    await elect(log, leader, node="n1", clock=CLOCK)
    for number in range(2_500):
        write_run(log, leader, number)
    await asyncio.sleep(0.01)
    state = ShardState(SHARD)
    assert await catch_up(log, state) == 2_501
    assert len(state.runs) == 2_500
    assert state_hash(state) == state_hash(leader)
    assert await catch_up(log, state) == 0


async def test_catching_up_with_an_empty_log_is_nothing() -> None:
    state = ShardState(SHARD)
    assert await catch_up(MemoryConnection().event_log(SHARD), state) == 0
    assert state_hash(state) == state_hash(ShardState(SHARD))


async def test_a_removed_tail_is_said_instead_of_waited_for() -> None:
    log = MemoryConnection().event_log(SHARD)
    await elect(log, ShardState(SHARD), node="n1", clock=CLOCK)
    log.records.purge(1)
    with pytest.raises(LogUnavailableError, match="nothing readable past 0 of 1"):
        await catch_up(log, ShardState(SHARD))


async def test_each_election_raises_the_epoch_by_one() -> None:
    log = MemoryConnection().event_log(SHARD)
    for epoch in range(1, 4):
        state = ShardState(SHARD)
        await elect(log, state, node=f"n{epoch}", clock=CLOCK)
        assert (state.epoch, state.number, state.leader) == (epoch, 1, f"n{epoch}")
        assert state.seq == log.records.last_seq
        assert state_hash(state) == state_hash(replayed(log))


class _RacingLog(MemoryLog):
    """Another leader appends just before each of our first `races` elections."""

    def __init__(self, inner: MemoryLog, other: ShardState, races: int) -> None:
        super().__init__(inner.records)
        self.inner = inner
        self.other = other
        self.races = races

    def append(self, key, payload, expected_seq, sink, *, gate=None) -> None:
        if self.races:
            self.races -= 1
            write_run(self.inner, self.other, self.races)
        super().append(key, payload, expected_seq, sink)


@pytest.mark.parametrize("races", [1, 4])
async def test_an_election_that_somebody_else_slipped_in_front_of_reads_on_and_tries_again(
    races: int,
) -> None:
    log = MemoryConnection().event_log(SHARD)
    other = ShardState(SHARD)
    await elect(log, other, node="n1", clock=CLOCK)
    state = ShardState(SHARD)
    await elect(_RacingLog(log, other, races), state, node="n2", clock=CLOCK)
    assert state.epoch == 2
    assert len(state.runs) == races
    assert state_hash(state) == state_hash(replayed(log))


async def test_an_election_against_a_leader_that_lives_is_given_up() -> None:
    log = MemoryConnection().event_log(SHARD)
    other = ShardState(SHARD)
    await elect(log, other, node="n1", clock=CLOCK)
    state = ShardState(SHARD)
    with pytest.raises(StaleWriterError):
        await elect(_RacingLog(log, other, 99), state, node="n2", clock=CLOCK)
    await asyncio.sleep(0.01)
    await catch_up(log, state)
    # What was tried has left no trace in the state.
    assert (state.epoch, state.number) == (1, other.number)
    assert state_hash(state) == state_hash(replayed(log))


@pytest.mark.parametrize(
    ("fault", "epoch"),
    [
        (AppendFault.ACK_LOST, 2),
        (AppendFault.REFUSED_THOUGH_STORED, 2),
        (AppendFault.DUPLICATE, 2),
        (AppendFault.REQUEST_LOST, 1),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_an_unclear_election_is_read_back_and_goes_on_with_a_higher_epoch_if_it_landed(
    fault: AppendFault, epoch: int
) -> None:
    log = MemoryConnection(plan=FaultPlan(appends={0: fault})).event_log(SHARD)
    state = ShardState(SHARD)
    await elect(log, state, node="n1", clock=CLOCK)
    assert state.epoch == epoch
    assert log.records.last_seq == epoch
    assert state_hash(state) == state_hash(replayed(log))


async def test_without_room_for_the_election_there_is_no_leader_and_no_trace() -> None:
    log = MemoryConnection().event_log(SHARD)
    log.full = True
    state = ShardState(SHARD)
    with pytest.raises(LogFullError):
        await elect(log, state, node="n1", clock=CLOCK)
    assert state_hash(state) == state_hash(ShardState(SHARD))
    log.full = False
    await elect(log, state, node="n1", clock=CLOCK)
    assert state.epoch == 1


async def test_frames_of_a_deposed_leader_are_refused_or_void() -> None:
    log = MemoryConnection().event_log(SHARD)
    zombie = ShardState(SHARD)
    await elect(log, zombie, node="n1", clock=CLOCK)
    state = ShardState(SHARD)
    await elect(log, state, node="n2", clock=CLOCK)
    write_run(log, zombie, 1)  # Expects what the election has: refused.
    await asyncio.sleep(0.01)
    assert log.records.last_seq == 2
    write_run(log, zombie, 2)  # Expects what the election got: stored, and void.
    await asyncio.sleep(0.01)
    assert log.records.last_seq == 3
    after = replayed(log)
    assert (after.runs, after.void_frames, after.epoch) == ({}, 1, 2)


def test_an_announcement_of_a_lower_epoch_changes_nothing() -> None:
    state = ShardState(SHARD)
    frames = []
    for epoch in (2, 1):
        writer = ShardState(SHARD, epoch=epoch)
        elected = m.LeaderElected(0, epoch=epoch, node=f"n{epoch}")
        apply_shard(writer, elected)
        frames += seal(writer, {}, [elected], now_ns=1)
    log = MemoryLog(MemoryConnection().installation.records(SHARD))
    for frame in frames:
        log.records.add(frame.key, frame.payload)
    for entry in log.records.read(0, None, 10):
        fold_entry(state, entry)
    assert (state.epoch, state.leader, state.void_frames) == (2, "n2", 1)
