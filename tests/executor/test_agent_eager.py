"""Children that begin on their parent's agent before the leader has heard of the call."""

import msgspec
import pytest
from agent_rig import INC, MS, RUN, Rig, call, child_id, ended, release, token

from millstream_events.ports import OutputLine
from millstream_events.reports import (
    UNKNOWN_ACTION,
    Adopted,
    BeginNothing,
    Forget,
    Hello,
    Returned,
    SayHello,
    StartAction,
    Started,
    Succeeded,
    ToAgent,
)
from millstream_events.values import WORKER_ALONE, WORKER_THREAD, Policy, Selector
from millstream_executor.effects import ShipOutput
from millstream_executor.link import (
    AttemptBegan,
    AttemptEnded,
    CallChild,
    CancelAttempt,
    MayBegin,
    MayNotBegin,
    Printed,
    RunAttempt,
)

PLAIN = Policy()


def begun(rig: Rig) -> bytes:
    """Return the token of the child that the rig's worker was given last."""
    return rig.heard(RunAttempt)[-1].work.token


def with_child(**settings: int) -> Rig:
    """Return a rig whose attempt 1 has called child 7, which began at once."""
    rig = trusted(Rig(**settings))
    rig.begin(1)
    rig.clear()
    rig.call(1, 7, PLAIN)
    return rig


def trusted(rig: Rig, *, took_ns: int = 80 * MS) -> Rig:
    """Let the leader acknowledge something, which proves that it has heard of the agent."""
    rig.begin(99)
    rig.end(99, took_ns=took_ns)
    rig.now += MS
    rig.orders(acked=rig.core.state.outbox.next - 1)
    return rig


def test_a_child_takes_the_slot_of_its_parent_before_the_leader_has_answered():
    rig = with_child(slots=2)
    (run,) = rig.heard(RunAttempt)
    assert (run.work.run, run.work.id, run.work.action) == (RUN, child_id(7), UNKNOWN_ACTION)


def test_call_and_end_of_a_short_child_go_up_in_one_message():
    rig = with_child(slots=2)
    assert rig.up == []
    rig.worker(rig.where(1), AttemptEnded(begun(rig), None, None, 5, 6))
    start, done = (item for item in rig.up if isinstance(item, StartAction | Succeeded))
    assert isinstance(start, StartAction)
    assert start.eager == begun(rig)
    assert isinstance(done, Succeeded)
    assert (done.action, done.token) == (UNKNOWN_ACTION, start.eager)


def test_the_call_of_a_longer_child_is_kept_back_for_a_millisecond_only():
    rig = with_child(slots=2)
    assert rig.core.tick_ns <= MS
    rig.wait(1)
    (start,) = rig.said(StartAction)
    assert start.eager == begun(rig)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(idempotent=False),
        Policy(queue="other"),
        Policy(selector=Selector(region=("xx",))),
        Policy(worker=WORKER_ALONE),
        Policy(memory_max_bytes=1 << 20),
        Policy(queued_max_ms=5),
    ],
)
def test_what_the_leader_must_place_waits_for_the_leader(policy: Policy):
    rig = trusted(Rig(slots=2))
    rig.begin(1)
    rig.clear()
    rig.call(1, 7, policy)
    assert rig.heard(RunAttempt) == []
    assert rig.said(StartAction) == [call(1, 7, policy)]


def test_a_cached_child_waits_for_the_leader():
    rig = trusted(Rig(slots=2))
    key = rig.begin(1)
    rig.clear()
    from_worker = msgspec.structs.replace(call(1, 7, PLAIN), cache_key=b"k")
    rig.worker(key, CallChild(from_worker))
    assert rig.heard(RunAttempt) == []


def test_without_credit_to_spend_nobody_is_overtaken():
    rig = trusted(Rig(slots=1))
    rig.begin(1)
    assert rig.core.state.credit.granted == rig.core.state.credit.received
    rig.clear()
    rig.call(1, 7, PLAIN)
    assert rig.heard(RunAttempt) == []


def test_a_repeated_attempt_asks_the_leader_since_its_children_may_exist():
    rig = trusted(Rig(slots=2))
    rig.begin(1, attempt=2)
    rig.clear()
    rig.call(1, 7, PLAIN)
    assert rig.heard(RunAttempt) == []


def test_a_thread_task_begins_at_once_too():
    rig = trusted(Rig(slots=2))
    rig.begin(1)
    rig.clear()
    rig.call(1, 7, Policy(worker=WORKER_THREAD))
    assert len(rig.heard(RunAttempt)) == 1


def test_what_the_leader_declines_is_ended_and_says_nothing_more():
    rig = with_child(slots=2)
    child = begun(rig)
    rig.wait(1)
    rig.clear()
    rig.orders(Forget(child))
    assert rig.heard(CancelAttempt) == [CancelAttempt(child, "forgotten")]
    rig.worker(rig.where(1), AttemptEnded(child, None, None, 5, 6))
    assert rig.said(Succeeded) == []


def test_the_release_of_an_eager_child_resumes_its_parent():
    rig = with_child(slots=2)
    rig.worker(rig.where(1), AttemptEnded(begun(rig), None, None, 5, 6))
    rig.orders(release(1, 7))
    rig.worker(rig.where(1), ended(1))
    assert rig.said(Succeeded)[-1].token == token(1)


def test_output_waits_for_the_ordinal_which_is_asked_for_at_once():
    rig = with_child(slots=2)
    child, key = begun(rig), rig.where(1)
    rig.worker(key, AttemptBegan(child, 5))
    line = OutputLine(1, 1, "hello")
    rig.worker(key, Printed(child, (line,)))
    assert rig.did(ShipOutput) == []
    (started,) = rig.said(Started)
    assert (started.action, started.token) == (UNKNOWN_ACTION, child)
    rig.orders(Adopted(child, 4))
    (shipped,) = rig.did(ShipOutput)
    assert (shipped.batch.action, shipped.batch.lines) == (4, (line,))
    rig.worker(key, Printed(child, (line,)))
    assert rig.did(ShipOutput)[-1].batch.action == 4


def test_an_introduction_marks_what_the_leader_may_not_know_yet():
    rig = with_child(slots=2)
    child = begun(rig)
    rig.wait(1)
    rig.clear()
    rig.wait(300)
    rig.orders(SayHello())
    (hello,) = rig.said(Hello)
    marks = {held.token: held.eager for held in hello.holding}
    assert marks == {token(1): False, child: True}
    acked = rig.core.state.outbox.next - 1
    rig.wait(300)
    rig.clear()
    rig.orders(SayHello(), acked=acked)
    (hello,) = rig.said(Hello)
    assert not any(held.eager for held in hello.holding)


def test_an_agent_that_the_leader_has_not_acknowledged_lately_asks_first():
    rig = trusted(Rig(slots=2))
    rig.begin(1)
    rig.clear()
    rig.now += 1_500 * MS  # Frozen, say: the leader may have given the caller to another agent.
    rig.call(1, 7, PLAIN)
    assert rig.heard(RunAttempt) == []
    assert rig.said(StartAction) == [call(1, 7, PLAIN)]


def permitted(**settings: int) -> Rig:
    """Return a rig whose attempt 1 may begin its next child beside itself."""
    rig = trusted(Rig(**settings), took_ns=1_000)
    rig.clear()
    rig.begin(1)
    return rig


def test_while_tasks_are_short_a_parent_may_begin_its_next_child_beside_itself():
    rig = permitted(slots=2)
    assert rig.heard(MayBegin)[-1].token == token(1)


def test_work_whose_credit_went_to_a_child_waits_here_while_tasks_are_short():
    rig = permitted(slots=2)
    credit = rig.core.state.credit
    free = credit.granted - credit.received
    rig.worker(rig.where(1), CallChild(call(1, 7, PLAIN), b"begun-77"))
    rig.clear()
    # On their way when the child began, one for each unit that there was.
    rig.core.on_orders(ToAgent(1, INC, 0, tuple(rig.work(20 + n) for n in range(free))), rig.now)
    assert credit.received > credit.granted
    rig.take()
    assert rig.said(Returned) == []


def test_while_tasks_are_long_no_child_begins_in_the_loop_of_its_parent():
    rig = trusted(Rig(slots=2))
    rig.begin(1)
    assert rig.heard(MayBegin) == []


def test_a_child_that_began_beside_its_parent_goes_up_in_one_message_with_its_end():
    rig = permitted(slots=2)
    rig.clear()
    rig.worker(
        rig.where(1),
        CallChild(call(1, 7, PLAIN), b"begun-77"),
        AttemptBegan(b"begun-77", 5),
        AttemptEnded(b"begun-77", None, None, 5, 6),
    )
    assert rig.heard(RunAttempt) == []
    start, done = (item for item in rig.up if isinstance(item, StartAction | Succeeded))
    assert isinstance(start, StartAction)
    assert isinstance(done, Succeeded)
    assert start.eager == done.token == b"begun-77"


def assert_taken_over(rig: Rig) -> None:
    """Assert that what has begun beside attempt 1 is not dropped, and goes up as begun."""
    rig.worker(rig.where(1), CallChild(call(1, 7, PLAIN), b"begun-77"))
    rig.worker(rig.where(1), AttemptEnded(b"begun-77", None, None, 5, 6))
    rig.wait(1)
    assert rig.heard(CancelAttempt) == []
    (start,) = rig.said(StartAction)
    assert start.eager == b"begun-77"
    assert [item.token for item in rig.said(Succeeded)] == [b"begun-77"]


def test_a_child_that_has_begun_is_not_begun_again_when_the_link_was_lost():
    rig = permitted(slots=2)
    rig.clear()
    rig.core.on_reconnect()  # Nothing is sure now: what was said may have been lost.
    assert_taken_over(rig)


def test_a_child_that_has_begun_is_not_begun_again_when_the_credit_has_gone():
    rig = permitted(slots=2)
    for other in range(20, 20 + rig.core.state.credit.granted - rig.core.state.credit.received):
        rig.orders(rig.work(other))
    rig.clear()
    assert_taken_over(rig)


def test_in_a_paused_run_nothing_begins_any_more_beside_its_parent_or_on_its_agent():
    rig = permitted(slots=2)
    rig.begin(2, run="another")
    rig.clear()
    rig.orders(BeginNothing(RUN))
    assert rig.heard(MayNotBegin) == [MayNotBegin(token(1))]
    rig.call(1, 7, PLAIN)
    rig.wait(1)
    assert rig.heard(RunAttempt) == []
    assert rig.said(StartAction) == [call(1, 7, PLAIN)]


def test_a_child_that_began_before_its_agent_heard_of_the_pause_begins_none_itself():
    rig = permitted(slots=2)
    rig.orders(BeginNothing(RUN))
    rig.clear()
    rig.worker(rig.where(1), CallChild(call(1, 7, PLAIN), b"begun-77"))
    grandchild = msgspec.structs.replace(call(1, 8, PLAIN), token=b"begun-77", parent=-1)
    rig.worker(rig.where(1), CallChild(grandchild))
    rig.wait(1)
    assert rig.heard(RunAttempt) == []
    assert [start.eager for start in rig.said(StartAction)] == [b"begun-77", b""]


def test_a_child_that_has_begun_is_not_begun_again_when_the_leader_is_slow():
    rig = permitted(slots=2)
    rig.clear()
    rig.now += 1_500 * MS
    assert_taken_over(rig)


def test_the_child_of_an_attempt_that_was_forgotten_is_dropped_with_it():
    rig = permitted(slots=2)
    rig.orders(Forget(token(1)))
    rig.clear()
    rig.worker(rig.where(1), CallChild(call(1, 7, PLAIN), b"begun-77"))
    assert CancelAttempt(b"begun-77", "forgotten") in rig.heard(CancelAttempt)
