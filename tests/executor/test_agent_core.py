"""The agent's core towards the leader: credit, the numbered stream, losses, leaving."""

import pytest
from agent_rig import MS, RUN, THREAD, Rig, call, child_id, release, token

from millstream_events.reports import (
    AskChildren,
    AskJournal,
    Credit,
    Goodbye,
    Hello,
    JournalPage,
    Lost,
    Parked,
    Repeat,
    Returned,
    SayHello,
    Started,
    Succeeded,
    ToAgent,
)
from millstream_executor.effects import (
    KillWorker,
)
from millstream_executor.link import (
    AttemptBegan,
    CallChild,
    DeliverJournal,
    RunAttempt,
    WantJournal,
)

# ---------------------------------------------------------------------- introduction and credit


def test_it_introduces_itself_with_credit_for_its_free_slots() -> None:
    rig = Rig(slots=3)
    (hello,) = rig.said(Hello)
    assert (hello.generation, hello.granted, hello.slots, hello.holding) == (1, 3, 3, ())


def test_a_finished_attempt_is_reported_together_with_the_credit_for_its_slot() -> None:
    rig = Rig()
    rig.begin(1)
    rig.clear()
    rig.end(1)
    assert [type(item) for item in rig.up] == [Succeeded, Credit]
    assert rig.granted == 2


def test_work_beyond_the_credit_is_returned_as_busy() -> None:
    rig = Rig()
    rig.orders(rig.work(1), rig.work(2))
    (returned,) = rig.said(Returned)
    assert (returned.token, returned.why) == (token(2), "busy")


def test_work_of_an_older_generation_is_dropped_without_a_word() -> None:
    rig = Rig()
    stale = rig.work(1)
    rig.core.on_reconnect()
    rig.take()
    rig.clear()
    rig.orders(stale)
    assert not rig.up
    assert not rig.told


def test_a_dispatch_that_comes_twice_runs_once() -> None:
    rig = Rig(slots=2)
    rig.orders(rig.work(1))
    rig.orders(rig.work(1))
    rig.end(1)
    rig.orders(rig.work(1))
    assert len(rig.heard(RunAttempt)) == 1
    assert len(rig.said(Succeeded)) == 1


def test_what_a_deposed_leader_still_sends_is_dropped() -> None:
    rig = Rig()
    rig.core.on_leader(7)
    rig.take()
    rig.orders(rig.work(1), epoch=6)
    assert not rig.told
    rig.orders(rig.work(1), epoch=7)
    assert rig.where(1)


def test_what_is_meant_for_another_incarnation_is_dropped() -> None:
    rig = Rig()
    rig.core.on_orders(ToAgent(1, "other", 0, (rig.work(1),)), rig.now)
    rig.take()
    assert not rig.told


def test_credit_is_repeated_every_second_as_the_heartbeat() -> None:
    rig = Rig()
    rig.clear()
    rig.wait(3000, step_ms=1000)
    assert [credit.granted for credit in rig.said(Credit)] == [1, 1, 1]


def test_short_tasks_are_fetched_ahead_and_long_ones_are_not() -> None:
    rig = Rig(slots=2)
    rig.begin(1)
    rig.end(1, took_ns=1_000)
    assert rig.granted > 3
    slow = Rig(slots=2)
    slow.begin(1)
    slow.end(1, took_ns=200 * MS)
    assert slow.granted == 3


def test_very_short_attempts_of_one_loop_share_a_slot_and_others_do_not() -> None:
    rig = Rig()
    rig.begin(1)
    rig.end(1, took_ns=1_000)
    rig.orders(*[rig.work(n) for n in range(2, 8)], rig.work(8, policy=THREAD), rig.work(9))
    assert {token(n) for n in range(2, 8)} <= set(rig.given)
    assert not {token(8), token(9)} & set(rig.given)
    for n in range(2, 8):
        rig.end(n, took_ns=1_000)
    assert token(8) in rig.given
    assert token(9) not in rig.given


def test_prefetched_work_that_no_slot_becomes_free_for_goes_back() -> None:
    rig = Rig()
    rig.begin(1)
    rig.end(1, took_ns=1_000)
    rig.orders(*[rig.work(n, policy=THREAD) for n in (2, 3, 4)])
    rig.worker(rig.where(2), AttemptBegan(token(2), 1))
    rig.clear()
    rig.wait(100)
    assert [(item.token, item.why) for item in rig.said(Returned)] == [
        (token(3), "busy"),
        (token(4), "busy"),
    ]
    (hello,) = rig.said(Hello)
    assert (hello.generation, hello.granted) == (2, 0)
    assert [held.token for held in hello.holding] == [token(2)]


def test_a_heartbeat_comes_in_each_beat_though_the_last_credit_is_younger() -> None:
    rig = Rig()
    rig.begin(1)
    rig.now = 11_400 * MS
    rig.end(1, took_ns=1_000)
    rig.clear()
    for now_ms in (12_001, 13_000, 14_003):
        rig.now = now_ms * MS
        rig.core.on_tick(rig.now)
        rig.take()
        assert len(rig.said(Credit)) == 1, now_ms
        rig.clear()


# ---------------------------------------------------------------------- the numbered stream


def test_reports_are_numbered_without_gaps() -> None:
    rig = Rig()
    for n in range(1, 6):
        rig.begin(n)
        rig.end(n)
    assert [number for number in rig.numbers if number] == [1, 2, 3, 4, 5]


def test_what_is_not_acknowledged_is_sent_again_after_two_seconds_and_then_every_five() -> None:
    rig = Rig()
    rig.begin(1)
    rig.end(1)
    rig.clear()
    rig.wait(1_900, step_ms=100)
    assert not rig.said(Succeeded)
    rig.wait(200, step_ms=100)
    assert len(rig.said(Succeeded)) == 1
    rig.wait(4_800, step_ms=100)
    assert len(rig.said(Succeeded)) == 1
    rig.wait(300, step_ms=100)
    assert len(rig.said(Succeeded)) == 2
    rig.orders(acked=1)
    rig.clear()
    rig.wait(20_000, step_ms=100)
    assert not rig.said(Succeeded)


@pytest.mark.parametrize("how", ["epoch", "announcement", "reconnect"])
def test_a_change_of_leader_or_connection_repeats_reports_before_the_introduction(
    how: str,
) -> None:
    rig = Rig()
    rig.orders(epoch=1)
    rig.begin(1)
    rig.end(1)
    rig.clear()
    if how == "epoch":
        rig.orders(epoch=2)
    elif how == "announcement":
        rig.core.on_leader(2)
        rig.take()
    else:
        rig.core.on_reconnect()
        rig.take()
    assert [type(item) for item in rig.up] == [Succeeded, Hello]
    assert rig.numbers == [1, 0]
    assert rig.said(Hello)[0].generation == 2


def test_the_first_leader_that_answers_needs_no_second_introduction() -> None:
    rig = Rig()
    rig.clear()
    rig.orders(epoch=5)
    assert not rig.said(Hello)


def test_the_leader_may_ask_for_numbers_again() -> None:
    rig = Rig()
    for n in (1, 2, 3):
        rig.begin(n)
        rig.end(n)
    rig.clear()
    rig.orders(Repeat(2))
    assert [item.token for item in rig.said(Succeeded)] == [token(2), token(3)]
    assert rig.numbers[:2] == [2, 3]


def test_say_hello_is_heeded_but_not_once_for_each_message_under_way() -> None:
    rig = Rig()
    rig.wait(300)
    rig.clear()
    rig.orders(SayHello())
    rig.orders(SayHello())
    assert len(rig.said(Hello)) == 1
    rig.wait(300)
    rig.orders(SayHello())
    assert len(rig.said(Hello)) == 2


def test_former_outcomes_come_before_the_introduction() -> None:
    former = (Succeeded(RUN, 1, token(1), None, "w", 0, 1), Lost(RUN, 2, token(2), "why"))
    rig = Rig(former=former)
    assert [type(item) for item in rig.up] == [Succeeded, Lost, Hello]
    assert rig.numbers == [1, 2, 0]


def test_reports_for_several_messages_follow_an_introduction_that_claims_them() -> None:
    former = [Succeeded(RUN, n, token(n), None, "w", 0, 1) for n in range(1, 301)]
    rig = Rig(former=former)
    first, last = rig.said(Hello)
    assert rig.up[0] is first
    assert rig.up[-1] is last
    assert {held.token for held in first.holding} == {item.token for item in former}
    assert last.holding == ()
    assert (first.granted, last.generation) == (0, first.generation + 1)
    assert [number for number in rig.numbers if number] == list(range(1, 301))


def test_no_credit_is_granted_while_too_much_is_unacknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("millstream_executor.outbox.ITEMS_MAX", 2)
    rig = Rig()
    rig.begin(1)
    rig.end(1)
    rig.begin(2)
    rig.clear()
    rig.end(2)
    rig.wait(1000)
    assert rig.granted == 2
    rig.orders(acked=2)
    assert rig.granted == 3


# ---------------------------------------------------------------------- slow things, lost things


def test_only_slow_attempts_are_reported_as_started_and_only_long_waits_as_parked() -> None:
    rig = Rig()
    rig.begin(1)
    rig.end(1)
    rig.begin(2)
    rig.wait(60)
    assert [item.action for item in rig.said(Started)] == [2]
    rig.call(2, 50)
    rig.wait(900)
    assert not rig.said(Parked)
    rig.wait(200)
    assert [item.action for item in rig.said(Parked)] == [2]
    rig.orders(acked=9)
    rig.wait(5_000, step_ms=500)
    assert len(rig.said(Started)) == len(rig.said(Parked)) == 1


def test_open_children_are_asked_for_at_once_after_a_change_of_leader() -> None:
    rig = Rig()
    rig.orders(epoch=1)
    rig.begin(1)
    rig.call(1, 50)
    rig.call(1, 51)
    rig.orders(release(1, 50), acked=2)
    rig.clear()
    rig.core.on_leader(2)
    rig.take()
    assert [type(item) for item in rig.up] == [Hello, AskChildren]
    assert rig.said(AskChildren)[0].ids == (child_id(51),)


def test_children_that_stay_open_are_asked_for_every_five_seconds() -> None:
    rig = Rig()
    rig.begin(1)
    rig.call(1, 50)
    rig.orders(acked=9)
    rig.clear()
    rig.wait(4_500, step_ms=500)
    assert not rig.said(AskChildren)
    rig.wait(2_000, step_ms=500)
    assert len(rig.said(AskChildren)) == 1
    rig.wait(5_000, step_ms=500)
    assert len(rig.said(AskChildren)) == 2


def test_many_open_children_are_asked_for_in_bounded_messages() -> None:
    rig = Rig()
    key = rig.begin(1)
    rig.worker(key, *[CallChild(call(1, child)) for child in range(100, 4_600)])
    rig.clear()
    rig.core.on_reconnect()
    rig.take()
    assert [len(item.ids) for item in rig.said(AskChildren)] == [2_000, 2_000, 500]


def test_of_very_many_open_children_some_are_asked_for_in_each_round_and_all_in_the_end() -> None:
    rig = Rig()
    for number in (1, 2, 3):
        key, first = rig.begin(number), number * 10_000
        rig.worker(key, *(CallChild(call(number, first + each)) for each in range(9_000)))
    rig.clear()
    rig.core.on_reconnect()
    rig.take()
    assert sum(len(item.ids) for item in rig.said(AskChildren)) == 18_000
    rig.wait(9_000, step_ms=500)
    assert {item.parent for item in rig.said(AskChildren)} == {1, 2, 3}


def test_a_journal_page_lost_on_its_way_is_asked_for_again() -> None:
    rig = Rig()
    key = rig.begin(1)
    rig.worker(key, WantJournal(token(1), 7))
    rig.wait(3_000, step_ms=1_000)
    assert {item.start for item in rig.said(AskJournal)} == {7}
    assert len(rig.said(AskJournal)) > 1
    rig.orders(JournalPage(token(1), ()))
    rig.orders(JournalPage(token(1), ()))
    assert len(rig.heard(DeliverJournal)) == 1
    rig.clear()
    rig.wait(3_000, step_ms=1_000)
    assert not rig.said(AskJournal)


# ---------------------------------------------------------------------- leaving


def test_a_leaving_agent_returns_what_has_not_begun_and_grants_nothing() -> None:
    rig = Rig()
    rig.begin(1)
    rig.end(1, took_ns=1_000)
    rig.begin(2, policy=THREAD)
    rig.orders(rig.work(3, policy=THREAD))
    rig.clear()
    rig.core.leave(rig.now)
    rig.take()
    assert [(item.token, item.why) for item in rig.said(Returned)] == [(token(3), "draining")]
    assert rig.said(Hello)[0].granted == 0
    rig.end(2)
    rig.core.say_goodbye(rig.now)
    rig.take()
    assert len(rig.said(Goodbye)) == 1
    assert not rig.said(Lost)


def test_what_still_runs_when_the_agent_leaves_is_lost() -> None:
    rig = Rig()
    key = rig.begin(1)
    rig.core.leave(rig.now)
    rig.core.say_goodbye(rig.now)
    rig.take()
    assert [item.why for item in rig.said(Lost)] == ["agent-left"]
    assert isinstance(rig.up[rig.up.index(rig.said(Lost)[0]) + 1], Goodbye)
    assert key in [kill.key for kill in rig.did(KillWorker)]
