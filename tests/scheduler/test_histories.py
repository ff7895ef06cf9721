"""Random histories of a whole shard: whatever breaks, replay and live state agree."""

import os

import msgspec
import pytest
from sim_world import SHARD, World

from millstream_events.audit import audit
from millstream_events.check import check_state
from millstream_events.fold import fold_entry
from millstream_events.ports import LogEntry
from millstream_events.state import ShardState, state_hash

#: A hundred thousand take about half an hour on two cores: see CONTRIBUTING.md.
HISTORIES = int(os.environ.get("MILLSTREAM_HISTORIES", "150"))


def replayed(entries: list[LogEntry]) -> ShardState:
    state = ShardState(SHARD)
    for entry in entries:
        fold_entry(state, entry)
    return state


def check_history(seed: int, **shape: int) -> World:
    world = World(seed, **shape)
    world.live(steps=150)
    live = world.book.state
    assert state_hash(live) == state_hash(replayed(world.log)), seed
    assert live.void_frames == 0
    cut = world.rng.randint(0, len(world.log))
    image = msgspec.msgpack.encode(replayed(world.log[:cut]))
    resumed = msgspec.msgpack.decode(image, type=ShardState)
    for entry in world.log[cut:]:
        fold_entry(resumed, entry)
    assert state_hash(resumed) == state_hash(live), seed
    assert check_state(live) == [], seed
    report = audit(world.log, quiescent=True)
    assert report.violations == (), (seed, report.violations)
    for run in live.runs.values():
        assert run.finished, seed
        assert not run.quarantine, run.quarantine
    return world


@pytest.mark.timeout(0)
@pytest.mark.parametrize("batch", range(4))
def test_runs_that_wait_for_each_others_results_all_end(batch: int) -> None:
    for seed in range(batch * HISTORIES // 10, (batch + 1) * HISTORIES // 10):
        check_history(10_000 + seed, runs=5, cached=True)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("batch", range(4))
def test_the_leader_walks_every_plan_to_its_end_whatever_breaks(batch: int) -> None:
    walked = 0
    for seed in range(batch * HISTORIES // 10, (batch + 1) * HISTORIES // 10):
        world = check_history(20_000 + seed, graphs=True, cached=seed % 2 == 0)
        walked += sum(
            action.kind == "graph" and action.phase == "SUCCEEDED"
            for run in world.fold().runs.values()
            for action in run.actions
        )
    assert walked


def test_a_plan_and_another_run_that_end_in_one_tick_write_the_cache_in_the_logs_order() -> None:
    check_history(20_284, graphs=True, cached=True)


@pytest.mark.timeout(0)  # As long as the number asked for takes.
@pytest.mark.parametrize("batch", range(10))
def test_after_any_faults_live_state_equals_replay_and_snapshot_plus_tail(batch: int) -> None:
    began_early = 0
    for seed in range(batch * HISTORIES // 10, (batch + 1) * HISTORIES // 10):
        began_early += check_history(seed).began_early
    assert began_early
