"""Decisions, one rule each, on the real core with time as an argument."""

import pytest
from sim_shard import RUN, Shard, works

from millstream_events import model as m
from millstream_events.commands import (
    AbortRun,
    Accepted,
    DescribeShard,
    Rejected,
    RunReleased,
    ShardDescribed,
    SubmitRun,
    WatchRun,
)
from millstream_events.phases import Phase, State
from millstream_events.reports import (
    AskJournal,
    Cancel,
    Credit,
    Failed,
    Forget,
    Held,
    Hello,
    JournalPage,
    RecordTrace,
    Release,
    Repeat,
    Returned,
    SayHello,
    SetTimer,
    StartAction,
    Started,
    Succeeded,
    Work,
)
from millstream_events.values import Backoff, ErrorRecord, Inline, Policy, Selector, TaskRef

ONE = Inline("msgpack", b"\x01")
OOPS = ErrorRecord("user", "ValueError", "oops")


def started(shard: Shard, policy: Policy | None = None) -> Work:
    """Return the root's first dispatch."""
    shard.join()
    effects = shard.submit(policy)
    orders = effects.agents_now["a"] or effects.agents_durable["a"]
    (work,) = works(orders)
    return work


def child_of(work: Work, name: bytes = b"c", policy: Policy | None = None) -> StartAction:
    call = name.ljust(10, b"-")
    return StartAction(
        RUN, work.action, work.token, call, "task", TaskRef("env.child"), None, b"h", policy=policy
    )


def done(work: Work) -> Succeeded:
    return Succeeded(RUN, work.action, work.token, ONE, "w", 1, 2)


def test_a_run_is_created_and_dispatched_in_one_tick_and_the_dispatch_does_not_wait() -> None:
    shard = Shard()
    shard.join()
    effects = shard.submit()
    assert [type(event) for event in shard.events] == [m.RunCreated, m.AttemptDispatched]
    assert works(effects.agents_now["a"])
    (accepted,) = effects.clients_durable["me.1"]
    assert isinstance(accepted, Accepted)


def test_a_task_that_must_start_at_most_once_is_dispatched_after_its_event_is_durable() -> None:
    shard = Shard()
    shard.join()
    effects = shard.submit(Policy(idempotent=False))
    assert not works(effects.agents_now["a"])
    assert works(effects.agents_durable["a"])


def test_a_success_ends_the_run_and_is_released_only_after_durability() -> None:
    shard = Shard()
    work = started(shard)
    shard.tick(commands=[WatchRun(b"w" * 16, RUN)])
    effects = shard.tick(done(work))
    assert shard.run.phase == Phase.SUCCEEDED
    (released,) = effects.clients_durable["me.1"]
    assert isinstance(released, RunReleased)
    assert released.output == ONE
    assert not effects.clients_now
    assert effects.acks == {"a": 1}


def test_a_repeated_submission_creates_nothing() -> None:
    shard = Shard()
    started(shard)
    effects = shard.submit()
    assert shard.events == []
    assert isinstance(effects.clients_durable["me.1"][0], Accepted)


def test_a_name_with_the_same_body_is_the_same_run_and_with_another_is_refused() -> None:
    shard = Shard()
    first = SubmitRun(b"1" * 16, RUN, TaskRef("t"), name="nightly", project="p", body=b"b")
    shard.tick(commands=[first])
    other = RUN[:-1] + "z"
    same = SubmitRun(b"2" * 16, other, TaskRef("t"), name="nightly", project="p", body=b"b")
    (accepted,) = shard.tick(commands=[same]).clients_durable["me.1"]
    assert isinstance(accepted, Accepted)
    assert accepted.run == RUN
    changed = SubmitRun(b"3" * 16, other, TaskRef("t"), name="nightly", project="p", body=b"c")
    (refused,) = shard.tick(commands=[changed]).clients_now["me.1"]
    assert isinstance(refused, Rejected)
    assert refused.code == "name-taken"
    elsewhere = SubmitRun(b"4" * 16, other, TaskRef("t"), name="nightly", project="q", body=b"c")
    (accepted,) = shard.tick(commands=[elsewhere]).clients_durable["me.1"]
    assert isinstance(accepted, Accepted)
    assert accepted.run == other


def test_a_child_is_released_to_its_parents_agent_once_durable() -> None:
    shard = Shard()
    parent = started(shard)
    (child,) = works(shard.tick(child_of(parent)).agents_now["a"])
    effects = shard.tick(done(child))
    (release,) = [o for o in effects.agents_durable["a"] if isinstance(o, Release)]
    assert (release.token, release.id, release.output) == (parent.token, child.id, ONE)


def test_the_same_call_again_creates_nothing_and_is_answered_when_it_is_over() -> None:
    shard = Shard()
    parent = started(shard)
    (child,) = works(shard.tick(child_of(parent)).agents_now["a"])
    shard.tick(done(child))
    effects = shard.tick(child_of(parent))
    assert shard.events == []
    assert [type(order) for order in effects.agents_durable["a"]] == [Release]


def test_a_user_error_is_retried_after_a_backoff_that_is_in_the_log() -> None:
    shard = Shard()
    work = started(shard, Policy(retries=1, backoff=Backoff(1000)))
    shard.tick(Failed(RUN, 0, work.token, OOPS))
    scheduled = shard.events[-1]
    assert isinstance(scheduled, m.RetryScheduled)
    wait_ms = scheduled.due_ms - shard.now_ms
    assert 1000 <= wait_ms <= 1250
    shard.now_ms += wait_ms - 1
    assert not works(shard.tick().agents_now["a"])
    shard.now_ms += 1
    (again,) = works(shard.tick().agents_now["a"])
    assert again.attempt == 2
    shard.tick(Failed(RUN, 0, again.token, OOPS))
    assert shard.run.phase == Phase.FAILED
    assert shard.run.error == OOPS


def test_system_failures_have_their_own_budget() -> None:
    shard = Shard()
    work = started(shard, Policy(retries=0, system_retries=2))
    for restart in range(2):
        hello = Hello(1, "default", "lo", "", (), 8, 8)
        effects = shard.tick(hello, incarnation=f"restarted-{restart}", numbered=0)
        (work,) = works(effects.agents_now["a"])
    assert work.attempt == 3
    assert shard.run.actions[0].user_failures == 0


def test_an_error_that_is_not_retryable_ends_the_action_whatever_is_left() -> None:
    shard = Shard()
    work = started(shard, Policy(retries=5))
    error = ErrorRecord("user", "NonRecoverableError", "stop", retryable=False)
    shard.tick(Failed(RUN, 0, work.token, error))
    assert shard.run.phase == Phase.FAILED


def test_a_running_limit_counts_from_the_start_and_cancels_the_attempt() -> None:
    shard = Shard()
    work = started(shard, Policy(runtime_max_ms=500))
    shard.now_ms += 700
    shard.tick()
    assert not shard.run.finished  # Not started yet: preparing a worker is charged to nobody.
    shard.tick(Started(RUN, 0, work.token, "w", 1, 1))
    shard.now_ms += 500
    effects = shard.tick()
    assert shard.run.phase == Phase.TIMED_OUT
    assert shard.run.error is not None
    assert shard.run.error.type == "MaxRuntimeExceededError"
    assert [type(order) for order in effects.agents_now["a"]] == [Cancel]


def test_a_queue_limit_ends_what_no_agent_takes() -> None:
    shard = Shard()
    shard.submit(Policy(queued_max_ms=300))
    shard.now_ms += 300
    shard.tick()
    assert shard.run.phase == Phase.TIMED_OUT


def test_a_deadline_covers_all_attempts_and_ends_the_children() -> None:
    shard = Shard()
    parent = started(shard, Policy(deadline_ms=1000, retries=9))
    (child,) = works(shard.tick(child_of(parent)).agents_now["a"])
    shard.now_ms += 1000
    effects = shard.tick()
    cancelled = {o.token for o in effects.agents_now["a"] if isinstance(o, Cancel)}
    assert cancelled == {parent.token, child.token}
    gone = ErrorRecord("cancelled", "CancelledError", "")
    shard.tick(Failed(RUN, child.action, child.token, gone), Failed(RUN, 0, parent.token, gone))
    assert shard.run.phase == Phase.TIMED_OUT


def test_an_abort_waits_for_the_bodies_and_gives_up_after_their_grace() -> None:
    shard = Shard()
    work = started(shard, Policy(grace_ms=100))
    effects = shard.tick(commands=[AbortRun(b"x" * 16, RUN, "ann", "wrong input")])
    assert [type(order) for order in effects.agents_now["a"]] == [Cancel]
    assert not shard.run.finished
    shard.now_ms += 100 + 5_000
    shard.tick()
    assert shard.run.phase == Phase.ABORTED
    assert shard.run.error is not None
    assert "wrong input" in shard.run.error.message
    effects = shard.tick(done(work))
    assert shard.events == []


def test_a_success_that_comes_after_the_abort_is_kept_as_discarded() -> None:
    shard = Shard()
    work = started(shard)
    shard.tick(commands=[AbortRun(b"x" * 16, RUN)])
    shard.tick(done(work))
    assert shard.run.phase == Phase.ABORTED
    assert shard.run.actions[0].discarded == ONE


def test_a_parents_end_ends_its_open_children_in_the_same_frame() -> None:
    shard = Shard()
    parent = started(shard)
    (child,) = works(shard.tick(child_of(parent)).agents_now["a"])
    effects = shard.tick(done(parent))
    assert shard.run.phase == Phase.SUCCEEDED
    assert shard.run.actions[1].state == State.ABORTED
    assert Cancel(child.token, 10_000, "aborted") in effects.agents_now["a"]


def test_a_retried_parent_finds_its_finished_calls_in_its_journal() -> None:
    shard = Shard()
    parent = started(shard, Policy(retries=1))
    (child,) = works(shard.tick(child_of(parent)).agents_now["a"])
    trace = RecordTrace(RUN, 0, parent.token, b"t" * 10, "step", b"h", ONE, None, 1, 2)
    shard.tick(trace, done(child))
    (again,) = works(shard.tick(Failed(RUN, 0, parent.token, OOPS)).agents_now["a"])
    assert {entry.id for entry in again.journal} == {child.id, b"t" * 10}
    assert again.journal_next == 0


def test_a_long_journal_comes_in_pages() -> None:
    shard = Shard()
    parent = started(shard, Policy(retries=1))
    big = Inline("msgpack", bytes(8000))
    for n in range(100):
        call = (n + 1).to_bytes(10)
        shard.tick(RecordTrace(RUN, 0, parent.token, call, "step", b"h", big, None, 1, 2))
    (again,) = works(shard.tick(Failed(RUN, 0, parent.token, OOPS)).agents_now["a"])
    seen, following = list(again.journal), again.journal_next
    while following:
        effects = shard.tick(AskJournal(RUN, 0, again.token, following), numbered=0)
        (page,) = [o for o in effects.agents_durable["a"] if isinstance(o, JournalPage)]
        seen += page.entries
        following = page.next
    assert [entry.id for entry in seen] == [(n + 1).to_bytes(10) for n in range(100)]


def test_a_durable_sleep_survives_the_parents_retry() -> None:
    shard = Shard()
    parent = started(shard, Policy(retries=1))
    due_ms = shard.now_ms + 1000
    shard.tick(SetTimer(RUN, 0, parent.token, b"s" * 10, due_ms))
    (again,) = works(shard.tick(Failed(RUN, 0, parent.token, OOPS)).agents_now["a"])
    shard.tick(SetTimer(RUN, 0, again.token, b"s" * 10, due_ms + 999))
    shard.now_ms += 1000
    effects = shard.tick()
    (release,) = effects.agents_durable["a"]
    assert isinstance(release, Release)
    assert release.token == again.token


def test_what_a_superseded_attempt_says_takes_no_effect_and_it_is_told_to_end() -> None:
    shard = Shard()
    first = started(shard, Policy(retries=1))
    shard.tick(Failed(RUN, 0, first.token, OOPS))
    effects = shard.tick(child_of(first), done(first))
    assert shard.events == []
    assert effects.agents_now["a"] == [Forget(first.token)]


def test_a_gap_in_the_numbers_is_asked_for_again_and_nothing_behind_it_counts() -> None:
    shard = Shard()
    work = started(shard)
    effects = shard.tick(done(work), first=5)
    assert effects.agents_now["a"] == [Repeat(1)]
    assert not shard.run.finished
    assert effects.acks == {"a": 0}


def test_an_unknown_agent_is_asked_for_its_introduction() -> None:
    shard = Shard()
    effects = shard.tick(Started(RUN, 0, b"?", "w", 1, 1), agent="b")
    assert effects.agents_now["b"] == [SayHello()]


def test_a_credit_of_a_newer_generation_shows_that_an_introduction_was_lost() -> None:
    shard = Shard()
    shard.join()
    effects = shard.tick(Credit(2, 8), numbered=0)
    assert effects.agents_now["a"] == [SayHello()]


def test_after_a_lost_connection_every_agent_is_asked_for_its_introduction() -> None:
    shard = Shard()
    shard.join()
    shard.join("b")
    effects = shard.tick(reconnected=True)
    assert effects.agents_now["a"] == effects.agents_now["b"] == [SayHello()]


def test_a_restarted_agent_has_lost_what_it_held_and_its_spooled_outcomes_count_first() -> None:
    shard = Shard()
    parent = started(shard)
    works(shard.tick(child_of(parent, b"c1"), child_of(parent, b"c2")).agents_now["a"])
    one, two = shard.run.actions[1], shard.run.actions[2]
    hello = Hello(1, "default", "lo", "", (), 8, 8)
    spooled = Succeeded(RUN, 1, one.token, ONE, "w", 1, 2)
    shard.tick(spooled, hello, incarnation="i2", first=1)
    assert one.state == State.SUCCEEDED
    assert two.attempt == 2
    assert shard.run.actions[0].attempt == 2


def test_what_a_restart_has_cost_is_in_the_log_before_the_restart_is() -> None:
    shard = Shard()
    started(shard)
    before = len(shard.log)
    shard.tick(Hello(1, "default", "lo", "", (), 8, 8), incarnation="i2", first=1, numbered=0)
    keys = [entry.key for entry in shard.log[before:]]
    assert keys[:2] == [RUN, "_"]
    # A leader that comes between the two finds out about the restart by itself.
    del shard.log[before + 1 :]
    shard.take_over()
    shard.tick(Hello(2, "default", "lo", "", (), 8, 8), incarnation="i2", first=1, numbered=0)
    assert shard.run.actions[0].attempt == 2


def test_a_dispatch_that_never_arrived_is_returned_at_no_cost() -> None:
    shard = Shard()
    work = started(shard)
    hello = Hello(2, "default", "lo", "", (), 8, 8)
    effects = shard.tick(hello, numbered=0)
    (again,) = works(effects.agents_now["a"])
    assert again.attempt == work.attempt
    assert again.token != work.token


def test_what_an_agent_still_holds_is_left_alone_by_a_new_leader() -> None:
    shard = Shard()
    work = started(shard)
    shard.take_over()
    held = Held(RUN, 0, 1, work.token)
    shard.tick(Hello(2, "default", "lo", "", (), 8, 7, (held,)), numbered=0)
    shard.tick(adoption_over=True)
    assert shard.run.actions[0].token == work.token
    shard.tick(done(work))
    assert shard.run.phase == Phase.SUCCEEDED


def test_an_agent_that_does_not_come_back_to_a_new_leader_has_lost_its_work() -> None:
    shard = Shard()
    started(shard)
    shard.take_over()
    shard.tick(adoption_over=True)
    lost = [event for event in shard.events if isinstance(event, m.AttemptLost)]
    assert [event.why for event in lost] == ["not-adopted"]


def test_a_silent_agent_gets_no_work_and_then_loses_what_it_has() -> None:
    shard = Shard()
    started(shard)
    shard.now_ms += 10_001
    shard.tick(look_round=True)
    lost = [event for event in shard.events if isinstance(event, m.AttemptLost)]
    assert [(event.why, event.limit_ms) for event in lost] == [("agent-silent", 10_000)]
    assert lost[0].silence_ms > 10_000


def test_work_that_no_pool_offers_is_held_with_a_reason_and_goes_when_one_comes() -> None:
    shard = Shard()
    shard.join()
    shard.submit(Policy(selector=Selector(pool="gpu")))
    shard.tick(look_round=True)
    shard.now_ms += 2_000
    shard.tick(Hello(2, "default", "lo", "", (), 8, 8), numbered=0, look_round=True)
    assert shard.run.actions[0].state == State.HELD
    assert "gpu" in shard.run.actions[0].held
    assert "default" in shard.run.actions[0].held
    effects = shard.join("g", pool="gpu")
    assert works(effects.agents_now["g"])


def test_a_returned_dispatch_costs_nothing_and_is_placed_again() -> None:
    shard = Shard()
    work = started(shard)
    effects = shard.tick(Returned(RUN, 0, work.token, "busy"))
    (again,) = works(effects.agents_now["a"])
    assert again.attempt == 1


def test_no_more_children_run_at_once_than_the_limit_and_waiting_parents_do_not_count() -> None:
    shard = Shard(parent_in_flight_max=2)
    parent = started(shard)
    calls = [child_of(parent, b"c%d" % n) for n in range(4)]
    first = works(shard.tick(*calls).agents_now["a"])
    assert len(first) == 2
    # One child calls a grandchild: it waits, so a third child may go.
    effects = shard.tick(child_of(first[0], b"g"))
    assert len(works(effects.agents_now["a"])) == 2
    effects = shard.tick(done(first[1]))
    assert len(works(effects.agents_now["a"])) == 1


def test_no_more_is_dispatched_than_credit_was_granted() -> None:
    shard = Shard()
    shard.join(credit=3)
    parent = works(shard.submit().agents_now["a"])[0]
    calls = [child_of(parent, b"c%d" % n) for n in range(9)]
    assert len(works(shard.tick(*calls).agents_now["a"])) == 2


@pytest.mark.parametrize("depth", [1500])
def test_an_abort_of_a_very_deep_run_needs_no_recursion(depth: int) -> None:
    shard = Shard()
    shard.replays = False  # A replay after each of so many ticks would take minutes.
    shard.join(credit=depth + 1)
    work = works(shard.submit().agents_now["a"])[0]
    for n in range(depth):
        (work,) = works(shard.tick(child_of(work, b"%d" % n)).agents_now["a"])
    shard.replays = True
    shard.tick(commands=[AbortRun(b"x" * 16, RUN)])
    assert sum(isinstance(event, m.ActionAbortRequested) for event in shard.events) == depth + 1


@pytest.mark.parametrize("name", ["..", "a b", "x" * 121, "health", "a\nb", "*", "$JS"])
def test_a_name_that_is_not_fit_to_be_one_is_refused_whoever_sends_it(name: str) -> None:
    shard = Shard()
    asked = SubmitRun(b"1" * 16, RUN, TaskRef("t"), name=name)
    (refused,) = shard.tick(commands=[asked]).clients_now["me.1"]
    assert isinstance(refused, Rejected)
    assert refused.code == "invalid"
    assert RUN not in shard.book.state.runs


def test_an_unknown_run_is_refused_by_name() -> None:
    shard = Shard()
    (refused,) = shard.tick(commands=[AbortRun(b"x" * 16, "nope")]).clients_now["me.1"]
    assert isinstance(refused, Rejected)
    assert refused.code == "no-such-run"


def test_the_shard_describes_itself() -> None:
    shard = Shard()
    shard.join()
    (answer,) = shard.tick(commands=[DescribeShard(b"d" * 16)]).clients_now["me.1"]
    assert isinstance(answer, ShardDescribed)
    assert [agent.agent for agent in answer.agents] == ["a"]
