"""Resources as placement: what fits, what is held and why, and where it goes."""

import pytest
from sim_shard import RUN, Shard, works

from millstream_events.reports import Failed, Hello, Started
from millstream_events.values import Capacity, ErrorRecord, Needs, Policy
from millstream_scheduler.placement import INTERRUPTIBLE, Seat, choose
from millstream_scheduler.room import Room, why_unfit

GIB = 2**30
MACHINE = Capacity(24 * GIB, 8000, 2, "A100", 100 * GIB, GIB)
NOT_SAID = Capacity()


@pytest.mark.parametrize(
    ("needs", "fits"),
    [
        (Needs(), True),
        (Needs(memory_bytes=24 * GIB, cpu_milli=8000, gpus=2, disk_bytes=GIB, shm_bytes=GIB), True),
        (Needs(memory_bytes=24 * GIB + 1), False),
        (Needs(cpu_milli=8001), False),
        (Needs(gpus=3), False),
        (Needs(gpus=1, gpu_device="A100"), True),
        (Needs(gpus=1, gpu_device="H100"), False),
        (Needs(disk_bytes=101 * GIB), False),
        (Needs(shm_bytes=GIB + 1), False),
    ],
)
def test_an_agent_takes_what_its_machine_has_and_all_where_it_says_nothing(
    needs: Needs, fits: bool
) -> None:
    assert Room(MACHINE).fits(needs) is fits
    assert Room(NOT_SAID).has(needs)


def test_what_attempts_hold_is_not_there_for_others() -> None:
    room = Room(MACHINE)
    half = Needs(memory_bytes=12 * GIB, gpus=1, cpu_milli=8000)
    room.take(b"1", half)
    room.take(b"1", half)
    assert room.has(half), "one attempt counts once, and CPU is bounded by slots"
    room.take(b"2", half)
    assert not room.has(Needs(memory_bytes=1))
    assert not room.has(Needs(gpus=1))
    assert room.has(Needs(cpu_milli=1))
    room.give_back(b"1")
    room.give_back(b"1")
    assert room.has(half)


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        (Needs(memory_bytes=64 * GIB), "needs 64Gi of memory, the largest agent has 24Gi"),
        (Needs(cpu_milli=16_000), "needs 16 of CPU, the largest agent has 8"),
        (Needs(gpus=4), "needs 4 of GPU, the largest agent has 2"),
        (Needs(gpus=1, gpu_device="H100"), "needs 1 H100 of GPU, the largest agent has 0 of them"),
        (Needs(disk_bytes=200 * GIB), "needs 200Gi of disk, the largest agent has 100Gi"),
    ],
)
def test_the_reason_names_what_is_missing(needs: Needs, text: str) -> None:
    small = Room(Capacity(GIB, 1000, 0, "", GIB, GIB))
    assert why_unfit(needs, {"a": Room(MACHINE), "b": small}) == text


def test_the_reason_names_what_is_free_when_it_would_fit_an_empty_agent() -> None:
    room = Room(MACHINE)
    room.take(b"1", Needs(memory_bytes=20 * GIB))
    text = why_unfit(Needs(memory_bytes=16 * GIB), {"a": room})
    assert text == "needs 16Gi of memory; a has 4Gi of 24Gi free"


def seat(agent: str, *, interruptible: bool) -> Seat:
    labels = (INTERRUPTIBLE,) if interruptible else ()
    return Seat(agent, "i", Hello(1, "default", "lo", "", labels, 8, 4), 0)


@pytest.mark.parametrize("interruptible", [True, False])
def test_nodes_that_may_vanish_get_what_may_be_interrupted(interruptible: bool) -> None:
    seats = [seat("spot", interruptible=True), seat("firm", interruptible=False)]
    chosen = choose(seats, b"", "firm", interruptible=interruptible)
    assert chosen is not None
    assert chosen.agent == ("spot" if interruptible else "firm")
    only = choose(seats[:1], b"", "", interruptible=False)
    assert only is not None, "a preference, not a condition"


# ---------------------------------------------------------------------- a leader


def joined(shard: Shard, agent: str = "a", *, capacity: Capacity = NOT_SAID, spot: bool = False):
    labels = (INTERRUPTIBLE,) if spot else ()
    hello = Hello(1, "default", "lo", "", labels, 8, 8, capacity=capacity)
    return shard.tick(hello, agent=agent, first=1, numbered=0)


def test_work_that_no_machine_holds_is_held_with_the_reason_and_goes_when_one_comes() -> None:
    shard = Shard()
    joined(shard, capacity=Capacity(24 * GIB))
    shard.submit(Policy(needs=Needs(memory_bytes=64 * GIB)))
    for _ in range(4):
        shard.now_ms += 1_000
        joined(shard, capacity=Capacity(24 * GIB))
        shard.tick(look_round=True)
    action = shard.run.actions[0]
    assert action.held == "needs 64Gi of memory, the largest agent has 24Gi"
    effects = joined(shard, "b", capacity=Capacity(64 * GIB))
    assert [work.run for work in works(effects.agents_now["b"])] == [RUN]


def test_two_that_do_not_fit_together_run_one_after_the_other() -> None:
    shard = Shard()
    joined(shard, capacity=Capacity(10 * GIB))
    policy = Policy(needs=Needs(memory_bytes=6 * GIB))
    first = works(shard.submit(policy).agents_now["a"])
    other = f"{RUN[:-1]}x"
    second = works(shard.submit(policy, run=other).agents_now["a"])
    assert (len(first), second) == (1, [])
    error = ErrorRecord("user", "ValueError", "no", retryable=False)
    effects = shard.tick(Failed(RUN, 0, first[0].token, error))
    assert [work.run for work in works(effects.agents_now["a"])] == [other]


def test_a_new_leader_knows_what_running_attempts_hold() -> None:
    shard = Shard()
    joined(shard, capacity=Capacity(10 * GIB))
    policy = Policy(needs=Needs(memory_bytes=6 * GIB))
    (work,) = works(shard.submit(policy).agents_now["a"])
    shard.take_over()
    shard.replays = False
    from millstream_events.reports import Held

    hello = Hello(
        *(2, "default", "lo", "", (), 8, 8, (Held(RUN, 0, 1, work.token),)),
        capacity=Capacity(10 * GIB),
    )
    shard.tick(hello, numbered=0)
    assert shard.book.seats["a"].room.memory_bytes == 6 * GIB


def test_the_last_attempt_goes_to_a_node_that_stays() -> None:
    shard = Shard()
    joined(shard, "firm")
    joined(shard, "spot", spot=True)
    effects = shard.submit(Policy(retries=1, needs=Needs(interruptible=True)))
    (work,) = works(effects.agents_now["spot"])
    error = ErrorRecord("user", "ValueError", "no")
    effects = shard.tick(
        Started(RUN, 0, work.token, "w", 1, 1),
        Failed(RUN, 0, work.token, error),
        agent="spot",
    )
    assert [again.attempt for again in works(effects.agents_now["firm"])] == [2]
