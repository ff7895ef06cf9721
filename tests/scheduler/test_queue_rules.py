"""Queues, one rule each, on the leader's core with time as an argument."""

import pytest
from sim_shard import Shard, works

from millstream_events.commands import (
    Accepted,
    ConfigureQueue,
    DeleteQueue,
    Rejected,
    Reply,
    SubmitRun,
)
from millstream_events.ids import new_run_id
from millstream_events.queues import QueueSettings, queue_flaw, queues_of, with_queue
from millstream_events.reports import Credit, Refuse, StartAction, Succeeded, Work
from millstream_events.values import Policy, Selector, TaskRef

Q = Policy(queue="q")


def configure(
    shard: Shard, settings: QueueSettings, name: str = "q", *, create: bool = True
) -> Reply:
    command = ConfigureQueue(b"q" * 16, name, settings, create)
    effects = shard.tick(commands=[command])
    (reply,) = effects.clients_durable["me.1"] or effects.clients_now["me.1"]
    shard.last = effects
    return reply


def run_id(number: int) -> str:
    return new_run_id(now_ms=1_700_000_000_000 + number, random_bits=number)


def submit(shard: Shard, number: int, policy: Policy = Q, project: str = "") -> list[Work]:
    command = SubmitRun(
        bytes([number]) * 16, run_id(number), TaskRef("e.t"), policy=policy, project=project
    )
    shard.last = shard.tick(commands=[command])
    return works(shard.last.agents_now["a"])


def child(work: Work, number: int, policy: Policy | None = None) -> StartAction:
    name = f"child-{number:04}".encode()
    return StartAction(
        work.run, work.action, work.token, name, "task", TaskRef("e.c"), None, b"h", policy=policy
    )


def done(work: Work) -> Succeeded:
    return Succeeded(work.run, work.action, work.token, None, "w", 1, 2)


def shard_with(settings: QueueSettings, *, credit: int = 100) -> Shard:
    shard = Shard()
    shard.join(credit=credit)
    assert isinstance(configure(shard, settings), Accepted)
    return shard


def test_only_so_many_runs_of_a_queue_are_under_way() -> None:
    shard = shard_with(QueueSettings(run_concurrency=2))
    first = [work for number in range(4) for work in submit(shard, number)]
    assert [work.run for work in first] == [run_id(0), run_id(1)]
    # Children of a run that is under way do not count.
    children = works(shard.tick(child(first[0], 1), child(first[0], 2)).agents_now["a"])
    assert len(children) == 2
    (third,) = works(shard.tick(done(first[1])).agents_now["a"])
    assert third.run == run_id(2)
    assert [work.run for work in submit(shard, 9, Policy())] == [run_id(9)]


def test_only_so_many_actions_of_a_queue_run_at_once_and_waiting_parents_do_not_count() -> None:
    shard = shard_with(QueueSettings(action_concurrency=1))
    (root,) = submit(shard, 0)
    (first,) = works(shard.tick(child(root, 1), child(root, 2)).agents_now["a"])
    assert (first.run, first.action) == (run_id(0), 1)
    assert submit(shard, 1) == []
    (second,) = works(shard.tick(done(first)).agents_now["a"])
    assert second.action == 2
    assert works(shard.tick(done(second)).agents_now["a"]) == []  # The parent runs again.
    (other,) = works(shard.tick(done(root)).agents_now["a"])
    assert other.run == run_id(1)


def test_a_new_leader_counts_what_is_under_way() -> None:
    shard = shard_with(QueueSettings(run_concurrency=1, action_concurrency=1))
    assert len(submit(shard, 0)) == 1
    assert submit(shard, 1) == []
    shard.take_over()
    assert (shard.book.queues.runs_in("q"), shard.book.queues.busy_in("q")) == (1, 1)


def test_children_belong_to_their_runs_queue_unless_they_name_one() -> None:
    shard = shard_with(QueueSettings(action_concurrency=1, pool="default"))
    configure(shard, QueueSettings(pool="default"), "own")
    (root,) = submit(shard, 0)
    orders = shard.tick(
        child(root, 1), child(root, 2), child(root, 3, Policy(queue="own"))
    ).agents_now["a"]
    assert [work.action for work in works(orders)] in ([1, 3], [3, 1])


def test_a_full_queue_refuses_calls_for_a_while_and_runs() -> None:
    shard = shard_with(QueueSettings(action_concurrency=1, depth=2))
    (root,) = submit(shard, 0)
    effects = shard.tick(*[child(root, number) for number in range(5)])
    refusals = [order for order in effects.agents_now["a"] if isinstance(order, Refuse)]
    assert [refusal.id for refusal in refusals] == [b"child-0002", b"child-0003", b"child-0004"]
    assert {refusal.code for refusal in refusals} == {"queue-full"}
    assert all(refusal.retry_after_ms > 0 for refusal in refusals)
    effects = shard.tick(child(root, 5), child(root, 6))  # The first one runs: there is room.
    assert len([order for order in effects.agents_now["a"] if isinstance(order, Refuse)]) == 1
    submit(shard, 1)
    (reply,) = shard.last.clients_now["me.1"]
    assert isinstance(reply, Rejected)
    assert (reply.code, reply.retry_after_ms > 0) == ("queue-full", True)
    assert run_id(1) not in shard.book.state.runs


def test_a_full_queue_takes_the_first_call_of_an_action_whose_place_it_needs() -> None:
    shard = shard_with(QueueSettings(action_concurrency=1, depth=1))
    (root,) = submit(shard, 0)
    assert not submit(shard, 1)  # It waits for the place of the first run's root.
    effects = shard.tick(child(root, 0), child(root, 1))
    refusals = [order for order in effects.agents_now["a"] if isinstance(order, Refuse)]
    assert [refusal.id for refusal in refusals] == [b"child-0001"]
    assert len(works(effects.agents_now["a"])) == 1


def test_a_draining_queue_takes_no_runs_and_finishes_what_it_has() -> None:
    shard = shard_with(QueueSettings())
    (root,) = submit(shard, 0)
    configure(shard, QueueSettings(draining=True), create=False)
    assert submit(shard, 1) == []
    (reply,) = shard.last.clients_now["me.1"]
    assert isinstance(reply, Rejected)
    assert (reply.code, reply.retry_after_ms) == ("queue-draining", 0)
    assert len(works(shard.tick(child(root, 1)).agents_now["a"])) == 1
    configure(shard, QueueSettings(), create=False)
    assert len(submit(shard, 1)) == 1


def test_a_higher_priority_is_dispatched_first_when_there_is_not_room_for_all() -> None:
    shard = Shard()
    for name, priority in (("min", 1), ("medium", 50), ("max", 100)):
        configure(shard, QueueSettings(priority=priority), name)
    for number, name in enumerate(("min", "medium", "max") * 2):
        submit(shard, number, Policy(queue=name))
    first = works(shard.join(credit=2).agents_now["a"])
    queues = [shard.book.state.runs[work.run].actions[0].rules.queue for work in first]
    assert queues == ["max", "max"]
    orders = shard.tick(Credit(1, 4), numbered=0).agents_now["a"]
    queues = [shard.book.state.runs[work.run].actions[0].rules.queue for work in works(orders)]
    assert queues[0] == "medium"


def test_queues_of_one_priority_take_turns_whatever_they_hold() -> None:
    shard = Shard()
    for number in range(20):
        submit(shard, number, Policy(selector=Selector("default"), queue="crowd"))
    for number in range(20, 23):
        submit(shard, number, Policy(selector=Selector("default"), queue="few"))
    placed = works(shard.join(credit=6).agents_now["a"])
    queues = [shard.book.state.runs[work.run].actions[0].rules.queue for work in placed]
    assert sorted(queues) == ["crowd"] * 3 + ["few"] * 3


def test_a_configured_queue_runs_in_its_pool_and_without_one_anywhere() -> None:
    shard = shard_with(QueueSettings())
    assert len(submit(shard, 0)) == 1
    configure(shard, QueueSettings(pool="gpu"), create=False)
    assert submit(shard, 1) == []
    assert len(works(shard.join("g", pool="gpu").agents_now["g"])) == 1


def test_settings_are_events_that_a_new_leader_decides_by() -> None:
    shard = shard_with(QueueSettings(run_concurrency=3, pool="default"))
    shard.take_over()
    assert shard.book.queues.settings == {"q": QueueSettings(run_concurrency=3, pool="default")}
    shard.tick(commands=[DeleteQueue(b"d" * 16, "q")])
    shard.take_over()
    assert shard.book.queues.settings == {}


@pytest.mark.parametrize(
    ("settings", "create", "code"),
    [
        (QueueSettings(run_concurrency=1), True, None),  # The very same.
        (QueueSettings(run_concurrency=2), True, "name-taken"),
        (QueueSettings(priority=7), False, "invalid"),
        (QueueSettings(depth=-1), False, "invalid"),
        (QueueSettings(pool="no good!"), False, "invalid"),
    ],
)
def test_a_queue_is_made_once_and_as_it_should_be(
    settings: QueueSettings, create: bool, code: str | None
) -> None:
    shard = shard_with(QueueSettings(run_concurrency=1))
    reply = configure(shard, settings, create=create)
    assert (reply.code if isinstance(reply, Rejected) else None) == code
    missing = configure(shard, QueueSettings(), "other", create=False)
    assert isinstance(missing, Rejected)
    assert missing.code == "no-such-queue"


def test_there_are_not_more_queues_than_a_leader_looks_through() -> None:
    shard = Shard()
    shard.replays = False
    for number in range(64):
        assert isinstance(configure(shard, QueueSettings(), f"q{number}"), Accepted)
    assert isinstance(configure(shard, QueueSettings(), "one-more"), Rejected)


def test_flattened_settings_keep_other_ones_and_come_back_whole() -> None:
    queue = QueueSettings(1, 2, 3, 100, "gpu", draining=True)
    flat = with_queue({"queue_max": 9, "queue/a/depth": 4}, "b", queue)
    assert queues_of(dict(flat)) == {"a": QueueSettings(depth=4), "b": queue}
    assert ("queue_max", 9) in flat
    assert queues_of(dict(with_queue(dict(flat), "b", None))) == {"a": QueueSettings(depth=4)}
    assert queue_flaw("b", queue) == ""
