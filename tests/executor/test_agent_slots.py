"""Slots and parking: a waiter holds none, so nothing can deadlock."""

import pytest
from agent_rig import RUN, THREAD, Rig, child_id, release, token

from millstream_events.reports import (
    CancelChild,
    Credit,
    Refuse,
    Returned,
    StartAction,
    Succeeded,
)
from millstream_events.values import (
    WORKER_ALONE,
    WORKER_ASYNC,
    WORKER_THREAD,
    Policy,
)
from millstream_executor.held import Stage
from millstream_executor.link import (
    Deliver,
    DeliverRefusal,
    DropChild,
)

# ---------------------------------------------------------------------- slots and parking


def test_a_waiting_parent_gives_its_slot_back_and_the_credit_goes_up_with_the_call() -> None:
    rig = Rig()
    rig.begin(1)
    rig.clear()
    rig.call(1, 50)
    assert [type(item) for item in rig.up] == [StartAction, Credit]
    assert rig.core.state.counts[Stage.RUNNING] == 0


def test_releases_pass_at_once_while_others_are_pending_and_the_last_waits_for_a_slot() -> None:
    rig = Rig()
    rig.begin(1)
    rig.call(1, 50)
    rig.call(1, 51)
    rig.begin(2)
    rig.orders(release(1, 50))
    assert [deliver.release.id for deliver in rig.heard(Deliver)] == [child_id(50)]
    rig.orders(release(1, 51))
    assert len(rig.heard(Deliver)) == 1
    rig.end(2)
    assert [deliver.release.id for deliver in rig.heard(Deliver)] == [child_id(50), child_id(51)]


def test_a_parent_goes_on_before_new_work_begins() -> None:
    rig = Rig()
    rig.begin(1)
    rig.end(1, took_ns=1_000)
    rig.begin(2, policy=THREAD)
    rig.call(2, 50)
    rig.begin(3, policy=THREAD)
    rig.orders(rig.work(4, policy=THREAD), release(2, 50))
    rig.end(3)
    assert rig.heard(Deliver)
    with pytest.raises(AssertionError):
        rig.where(4)


def test_a_release_that_comes_twice_is_delivered_once() -> None:
    rig = Rig()
    rig.begin(1)
    rig.call(1, 50)
    rig.orders(release(1, 50))
    rig.orders(release(1, 50))
    assert len(rig.heard(Deliver)) == 1


def test_a_call_made_while_waiting_for_a_slot_lets_the_kept_release_pass() -> None:
    rig = Rig()
    rig.begin(1)
    rig.call(1, 50)
    rig.begin(2)
    rig.orders(release(1, 50))
    assert not rig.heard(Deliver)
    rig.call(1, 51)
    assert len(rig.heard(Deliver)) == 1
    assert rig.core.state.held[token(1)].stage == Stage.PARKED


def test_a_refused_call_is_raised_at_the_call() -> None:
    rig = Rig()
    rig.begin(1)
    rig.call(1, 50)
    rig.orders(Refuse(RUN, token(1), child_id(50), "limit", "too many"))
    assert [message.refusal.code for message in rig.heard(DeliverRefusal)] == ["limit"]
    assert rig.core.state.counts[Stage.RUNNING] == 1


def test_a_dropped_child_is_cancelled_above_and_its_parent_takes_a_slot_again() -> None:
    rig = Rig()
    key = rig.begin(1)
    rig.call(1, 50)
    rig.worker(key, DropChild(token(1), child_id(50)))
    assert [item.id for item in rig.said(CancelChild)] == [child_id(50)]
    assert rig.core.state.counts[Stage.RUNNING] == 1
    rig.orders(release(1, 50))
    assert not rig.heard(Deliver)


@pytest.mark.parametrize("depth", [1, 50])
@pytest.mark.parametrize("kind", [WORKER_ASYNC, WORKER_THREAD, WORKER_ALONE])
def test_one_slot_carries_nested_calls_of_any_depth(depth: int, kind: int) -> None:
    rig = Rig()
    policy = Policy(worker=kind)
    for n in range(1, depth + 1):
        assert rig.granted >= n
        rig.begin(n, policy=policy)
        rig.call(n, n + 1)
    rig.begin(depth + 1, policy=policy)
    for n in range(depth + 1, 0, -1):
        rig.end(n)
        if n > 1:
            rig.orders(release(n - 1, n))
    assert [item.action for item in rig.said(Succeeded)] == list(range(depth + 1, 0, -1))
    assert not rig.core.state.held


def test_nesting_processes_beyond_the_bound_is_refused_at_the_call() -> None:
    rig = Rig(parked_alone_max=2)
    policy = Policy(worker=WORKER_ALONE)
    for n in (1, 2):
        rig.begin(n, policy=policy)
        rig.call(n, n + 1)
    rig.begin(3, policy=policy)
    rig.call(3, 4)
    (refusal,) = rig.heard(DeliverRefusal)
    assert refusal.refusal.code == "nesting-too-deep"
    assert [item.parent for item in rig.said(StartAction)] == [1, 2]


def test_work_that_soon_waits_is_fetched_ahead_again_after_slots_were_taken_for_long() -> None:
    rig = Rig()
    rig.begin(1)
    rig.end(1, took_ns=1_000)
    rig.orders(*[rig.work(n, policy=THREAD) for n in (2, 3)])
    rig.wait(100)
    assert rig.said(Returned)
    rig.end(2)
    rig.orders(rig.work(4))
    assert rig.granted - rig.core.state.credit.received == 0
    rig.call(4, 54)
    assert rig.granted - rig.core.state.credit.received == 1, "nothing ahead: one proves nothing"
    for n in range(5, 40):
        rig.orders(rig.work(n))
        rig.call(n, 100 + n)
    assert rig.granted - rig.core.state.credit.received > 1


def test_code_that_waits_soon_does_not_count_as_short() -> None:
    rig = Rig()
    for n in range(1, 40):
        rig.orders(rig.work(n))
        rig.call(n, 100 + n)
    assert rig.core.state.pace.sharers == 1
