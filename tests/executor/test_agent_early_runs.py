"""Runs that begin on an agent because their client has sent them there as well."""

import msgspec
import pytest
from agent_rig import INC, MS, TASK, Rig
from sim_shard import Shard, works

from millstream_events.commands import ClientBatch, Command, SubmitRun, WatchRun
from millstream_events.early import RunBegun, RunDeclined
from millstream_events.ids import new_run_id
from millstream_events.reports import Forget, Hello, Succeeded, ToAgent, Work
from millstream_events.values import WORKER_ALONE, DeployedAs, Inline, Needs, Policy, Selector
from millstream_executor.link import AttemptEnded, RunAttempt

RUN = new_run_id(now_ms=1_700_000_000_000, random_bits=9)
ASKED = SubmitRun(
    b"c" * 16, RUN, TASK, Inline("msgpack", b"\x05"), "shop", "test", labels=(("team", "x"),)
)


def trusted(**settings: int) -> Rig:
    """Return a rig of which the leader has heard just now."""
    rig = Rig(**settings)
    rig.begin(99)
    rig.end(99)
    rig.now += MS
    rig.orders(acked=rig.core.state.outbox.next - 1)
    rig.clear()
    return rig


def send(rig: Rig, *commands: Command) -> None:
    rig.core.on_submission(ClientBatch("me.1", commands, "lo.p.a"), rig.now)
    rig.take()


def given(rig: Rig) -> list[Work]:
    return [message.work for message in rig.heard(RunAttempt)]


def test_a_run_begins_at_once_where_there_is_room() -> None:
    rig = trusted(slots=2)
    send(rig, ASKED, WatchRun(b"w" * 16, RUN))
    (work,) = given(rig)
    assert (work.run, work.action, work.attempt) == (RUN, 0, 1)


def test_begin_and_end_of_a_short_run_go_up_in_one_message() -> None:
    rig = trusted(slots=2)
    send(rig, ASKED)
    assert rig.up == []
    (work,) = given(rig)
    rig.worker(rig.given[work.token], AttemptEnded(work.token, None, None, 5, 6))
    begun, done = rig.up[:2]
    assert begun == RunBegun(RUN, work.token, rig.core.state.credit.generation)
    assert isinstance(done, Succeeded)
    assert (done.run, done.action, done.token) == (RUN, 0, work.token)


def test_the_word_of_a_longer_run_is_kept_back_for_a_millisecond_only() -> None:
    rig = trusted(slots=2)
    send(rig, ASKED)
    rig.wait(1)
    assert len(rig.said(RunBegun)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"policy": Policy(children_max=3, retries=2, runtime_max_ms=500)},
        {"context": (("team", "blue"),)},
        {"bundle": b"d" * 32},
        {"task": msgspec.structs.replace(TASK, deployed=DeployedAs("v1", b"e" * 32))},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_begins_is_what_the_leader_would_have_ordered(fields: dict[str, object]) -> None:
    command = msgspec.structs.replace(ASKED, **fields)
    shard = Shard()
    shard.join()
    (ordered,) = works(shard.tick(commands=[command]).agents_now["a"])
    rig = trusted(slots=2)
    rig.core.state.bundles.update({b"d" * 32: None, b"e" * 32: None})  # type: ignore[dict-item]
    send(rig, command)
    (work,) = given(rig)
    same = {"token": b"", "generation": 0}
    assert msgspec.structs.replace(work, **same) == msgspec.structs.replace(ordered, **same)


@pytest.mark.parametrize(
    "fields",
    [
        {"policy": Policy(queue="other")},
        {"policy": Policy(selector=Selector(pool="q"))},
        {"policy": Policy(worker=WORKER_ALONE)},
        {"policy": Policy(idempotent=False)},
        {"policy": Policy(needs=Needs(cpu_milli=100))},
        {"policy": Policy(actions_max=2)},
        {"name": "alias"},
        {"cache_key": b"k"},
        {"settings": (("cache", "disable"),)},
        {"bundle": b"elsewhere"},
        {"run": "no run id"},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_what_the_leader_must_decide_is_declined(fields: dict[str, object]) -> None:
    rig = trusted(slots=2)
    command = msgspec.structs.replace(ASKED, **fields)
    send(rig, command)
    assert given(rig) == []
    assert rig.said(RunDeclined) == [RunDeclined(command.run)]
    assert rig.said(RunBegun) == []


def test_without_a_free_slot_a_run_is_declined() -> None:
    rig = trusted(slots=1)
    rig.begin(1)
    rig.clear()
    send(rig, ASKED)
    assert rig.said(RunDeclined) == [RunDeclined(RUN)]


def test_an_agent_that_leaves_declines() -> None:
    rig = trusted(slots=2)
    rig.core.leave(rig.now)
    send(rig, ASKED)
    assert given(rig) == []
    assert rig.said(RunDeclined) == [RunDeclined(RUN)]


def test_an_agent_that_the_leader_may_have_given_up_declines() -> None:
    rig = trusted(slots=2)
    rig.now += 1_100 * MS
    send(rig, ASKED)
    assert rig.said(RunDeclined) == [RunDeclined(RUN)]


def test_a_run_that_comes_twice_begins_once() -> None:
    rig = trusted(slots=2)
    send(rig, ASKED)
    send(rig, ASKED)
    assert len(given(rig)) == 1
    assert rig.said(RunDeclined) == []


def test_what_the_leader_does_not_know_of_is_ended() -> None:
    rig = trusted(slots=2)
    send(rig, ASKED)
    (work,) = given(rig)
    rig.orders(Forget(work.token))
    rig.worker(rig.given[work.token], AttemptEnded(work.token, None, None, 5, 6))
    assert rig.said(Succeeded) == []


def test_a_new_leader_is_told_of_what_began_ahead_of_it_and_that_it_is_held() -> None:
    rig = trusted(slots=2)
    send(rig, ASKED)
    (work,) = given(rig)
    rig.wait(1)
    rig.clear()
    rig.orders(epoch=2)
    begun, hello = (item for item in rig.up if isinstance(item, RunBegun | Hello))
    assert isinstance(begun, RunBegun)
    assert isinstance(hello, Hello)
    (held,) = hello.holding
    assert (held.run, held.action, held.token, held.eager) == (RUN, 0, work.token, True)


def test_an_acknowledgement_that_came_alone_says_nothing_of_the_trip_to_the_leader() -> None:
    rig = trusted(slots=2)
    before = rig.core.state.pace.ahead
    for n in range(1, 30):
        rig.begin(n)
        rig.end(n, took_ns=MS)
        rig.now += 20 * MS  # So long does an acknowledgement wait for an order.
        rig.core.on_orders(ToAgent(1, INC, rig.core.state.outbox.next - 1, ()), rig.now)
        rig.take()
    assert rig.core.state.pace.ahead <= max(before, 1)
