"""Who is next: turns for queue, project and run; inside a run the deepest first."""

import tracemalloc
from bisect import insort
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream_scheduler.fairness import (
    RANK_EVICTED,
    RANK_NEW,
    RANK_RETRY,
    FairQueue,
    QueueTurns,
    Ready,
)


def ready(run: str, ordinal: int, *, rank: int = RANK_NEW, depth: int = 0) -> Ready:
    return Ready(rank, -depth, ordinal, 1, run)


def drained(queue: FairQueue) -> list[Ready]:
    return [queue.pop() for _ in range(len(queue))]


def test_runs_take_turns_however_many_actions_one_has() -> None:
    queue = FairQueue()
    for ordinal in range(100):
        queue.push("p", ready("large", ordinal))
    for ordinal in range(3):
        queue.push("p", ready("small", ordinal))
    assert [each.run for each in drained(queue)][:6] == ["large", "small"] * 3


def test_projects_take_turns_however_many_runs_one_has() -> None:
    queue = FairQueue()
    for run in range(50):
        queue.push("crowd", ready(f"c{run}", 0))
    for ordinal in range(3):
        queue.push("lonely", ready("l", ordinal))
    assert [each.run for each in drained(queue)[:6]] == ["c0", "l", "c1", "l", "c2", "l"]


def test_queues_of_one_priority_take_turns() -> None:
    turns = QueueTurns()
    picks = [turns.pick({"q1": 50, "q2": 50, "q3": 50}) for _ in range(9)]
    assert picks == ["q1", "q2", "q3"] * 3
    # One that had nothing to do for a while gets no more than its turn.
    assert [turns.pick({"q1": 50, "q2": 50}) for _ in range(4)] == ["q1", "q2"] * 2
    assert [turns.pick({"q1": 50, "q3": 50}) for _ in range(4)] == ["q3", "q1"] * 2


def test_a_higher_priority_goes_first_and_starves_nobody() -> None:
    turns = QueueTurns()
    waiting = {"min": 1, "medium": 50, "max": 100}
    picks = [turns.pick(waiting) for _ in range(160)]
    assert {name: picks.count(name) for name in waiting} == {"min": 10, "medium": 10, "max": 140}
    assert picks[:6] == ["max"] * 6
    assert [turns.pick({"min": 1}) for _ in range(3)] == ["min"] * 3


def test_inside_a_run_evicted_then_retries_then_the_deepest_then_the_oldest() -> None:
    queue = FairQueue()
    entries = [
        ready("r", 1, depth=1),
        ready("r", 2, depth=3),
        ready("r", 3, depth=3),
        ready("r", 4, rank=RANK_RETRY, depth=0),
        ready("r", 5, rank=RANK_EVICTED, depth=0),
        ready("r", 6, depth=0),
    ]
    for entry in entries:
        queue.push("", entry)
    assert [each.ordinal for each in drained(queue)] == [5, 4, 2, 3, 1, 6]


@given(st.lists(st.none() | st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 9))))
def test_a_run_is_served_in_order_whatever_comes_and_goes_in_between(
    steps: list[tuple[int, int, int] | None],
) -> None:
    queue = FairQueue()
    waiting: list[Ready] = []
    following = 0
    for step in steps:
        if step is None:
            assert not waiting or queue.pop() == waiting.pop(0)
            continue
        rank, depth, count = step
        for _ in range(count):
            following += 1
            # Now and then one that has been there before comes again.
            entry = ready("r", following % 16, rank=rank, depth=depth)
            queue.push("p", entry)
            insort(waiting, entry)
        assert sorted(queue.peek(1_000)) == waiting
        assert len(queue.peek(3)) == min(3, len(waiting)) == min(3, len(queue))
    assert drained(queue) == waiting


def test_actions_in_a_row_take_no_memory_each() -> None:
    queue = FairQueue()
    queue.push("p", ready("r", 0))
    tracemalloc.start()
    try:
        for ordinal in range(1, 10_000):
            queue.push("p", ready("r", ordinal))
        grown_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown_bytes < 10_000
    assert [each.ordinal for each in drained(queue)] == list(range(10_000))


def test_whoever_comes_back_waits_for_its_turn() -> None:
    queue = FairQueue()
    for run in ("a", "b", "c"):
        queue.push("p", ready(run, 0))
    order = []
    for ordinal in range(1, 10):
        each = queue.pop()
        order.append(each.run)
        queue.push("p", ready(each.run, ordinal))
    assert order == ["a", "b", "c"] * 3


@pytest.mark.parametrize("runs", [1, 7, 40])
def test_nothing_is_lost_or_doubled_and_the_count_is_right(runs: int) -> None:
    queue = FairQueue()
    pushed = set()
    for number in range(300):
        entry = ready(f"r{number % runs}", number, depth=number % 5)
        queue.push(f"p{number % 2}", entry)
        pushed.add(entry)
    assert len(queue) == 300
    assert set(queue.peek(1000)) == pushed
    assert len(queue.peek(10)) == 10
    assert len(queue) == 300
    popped = drained(queue)
    assert len(popped) == 300
    assert set(popped) == pushed
    assert len(queue) == 0
    assert queue.peek(10) == []


def test_no_run_waits_for_longer_than_one_turn_of_all_others() -> None:
    queue = FairQueue()
    for run in range(9):
        for ordinal in range(run + 1):
            queue.push("p", ready(f"r{run}", ordinal))
    order = [each.run for each in drained(queue)]
    places = [at for at, run in enumerate(order) if run == "r8"]
    assert max(after - before for before, after in pairwise(places)) <= 9
