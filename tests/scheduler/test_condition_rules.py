"""Conditions, one rule each, on the leader's core with time as an argument."""

import msgspec
import pytest
from sim_shard import RUN, Shard, works

from millstream_events import model as m
from millstream_events.check import check_state
from millstream_events.commands import AbortAction, Accepted, Rejected, Reply, SignalCondition
from millstream_events.conditions import (
    ConditionExtras,
    Scalar,
    decode_scalar,
    encode_scalar,
    type_name,
)
from millstream_events.phases import Phase, State
from millstream_events.reports import (
    Failed,
    Notified,
    Notify,
    OpenCondition,
    Order,
    Refuse,
    Release,
    Succeeded,
    Work,
)
from millstream_events.values import Blob, ErrorRecord, Inline, Policy

ID = b"condition-"
OOPS = ErrorRecord("user", "ValueError", "oops")


def parent(shard: Shard, policy: Policy | None = None) -> Work:
    shard.join()
    (work,) = works(shard.submit(policy).agents_now["a"])
    return work


def asked(work: Work, **fields: object) -> OpenCondition:
    extras = fields.pop("extras", ConditionExtras(timeout_ms=int(fields.pop("timeout_ms", 0))))
    base = OpenCondition(RUN, 0, work.token, ID, "go", "bool", "Go?")
    return msgspec.structs.replace(base, extras=extras, **fields)


def answer(shard: Shard, value: Scalar, name: bytes = ID) -> Reply:
    command = SignalCondition(b"s" * 16, RUN, name, encode_scalar(value), "me")
    effects = shard.tick(commands=[command])
    (reply,) = effects.clients_durable["me.1"] or effects.clients_now["me.1"]
    shard.last = effects
    return reply


def releases(orders: list[Order]) -> list[Release]:
    return [order for order in orders if isinstance(order, Release)]


def test_an_open_condition_is_an_action_in_phase_paused_that_runs_nowhere() -> None:
    shard = Shard()
    work = parent(shard)
    shard.tick(asked(work, extras=ConditionExtras("markdown", "more", 0, "g", "{}")))
    action = shard.run.actions[1]
    assert (action.kind, action.phase, action.token, action.group) == (
        "condition", Phase.PAUSED, b"", "g"
    )  # fmt: skip
    assert (action.asked.prompt_type, action.asked.description) == ("markdown", "more")
    assert check_state(shard.book.state) == []


def test_the_first_answer_ends_it_and_is_released_to_the_parent_once_durable() -> None:
    shard = Shard()
    work = parent(shard)
    shard.tick(asked(work))
    assert isinstance(answer(shard, True), Accepted)
    (release,) = releases(shard.last.agents_durable["a"])
    assert (release.id, release.phase, release.output) == (ID, "SUCCEEDED", encode_scalar(True))
    assert shard.last.agents_now["a"] == []
    assert isinstance(answer(shard, True), Accepted)
    reply = answer(shard, False)
    assert isinstance(reply, Rejected)
    assert (reply.code, reply.reason) == (
        "already-ended", "condition 'go' was answered with True already"
    )  # fmt: skip


@pytest.mark.parametrize("value", [1, 0.5, "yes"])
def test_an_answer_of_another_type_is_refused(value: Scalar) -> None:
    shard = Shard()
    shard.tick(asked(parent(shard)))
    reply = answer(shard, value)
    assert isinstance(reply, Rejected)
    assert reply.code == "wrong-type"
    assert shard.run.actions[1].state == State.WAITING


@pytest.mark.parametrize(
    "content", [Inline("msgpack", b"\xc1"), Inline("pickle", b"x"), Blob(bytes(32), 9, "msgpack")]
)
def test_an_answer_that_is_no_answer_is_refused(content: Inline | Blob) -> None:
    shard = Shard()
    shard.tick(asked(parent(shard)))
    effects = shard.tick(commands=[SignalCondition(b"s" * 16, RUN, ID, content)])
    (reply,) = effects.clients_now["me.1"]
    assert isinstance(reply, Rejected)
    assert reply.code == "wrong-type"


def test_only_conditions_of_runs_that_are_there_can_be_answered() -> None:
    shard = Shard()
    shard.tick(asked(parent(shard)))
    reply = answer(shard, True, b"another---")
    assert isinstance(reply, Rejected)
    assert reply.code == "no-such-action"
    reply = answer(shard, True, shard.run.actions[0].id)
    assert isinstance(reply, Rejected)
    assert reply.code == "no-such-action"


def test_a_timeout_counts_from_the_opening_and_the_new_leader_keeps_it() -> None:
    shard = Shard()
    work = parent(shard)
    shard.tick(asked(work, timeout_ms=500))
    shard.now_ms += 300
    shard.tick(asked(work, timeout_ms=500))  # Waiting for it asks again: nothing is prolonged.
    assert len(shard.run.actions) == 2
    shard.take_over()
    shard.now_ms += 199
    shard.tick()
    assert shard.run.actions[1].state == State.WAITING
    shard.now_ms += 1
    effects = shard.tick()
    (fired,) = [event for event in shard.events if isinstance(event, m.TimerFired)]
    assert (fired.what, fired.due_ms) == ("condition", shard.now_ms)
    assert shard.run.actions[1].phase == Phase.TIMED_OUT
    assert [release.phase for release in releases(effects.agents_durable["a"])] == ["TIMED_OUT"]
    reply = answer(shard, True)
    assert isinstance(reply, Rejected)
    assert reply.reason == "condition 'go' takes no answer any more: its time was up"


def test_an_answer_in_the_same_tick_wins_over_the_timeout() -> None:
    shard = Shard()
    shard.tick(asked(parent(shard), timeout_ms=500))
    shard.now_ms += 500
    assert isinstance(answer(shard, True), Accepted)
    assert shard.run.actions[1].phase == Phase.SUCCEEDED


def test_an_aborted_condition_tells_its_parent() -> None:
    shard = Shard()
    shard.tick(asked(parent(shard)))
    effects = shard.tick(commands=[AbortAction(b"a" * 16, RUN, 1, "me", "not today")])
    (release,) = releases(effects.agents_durable["a"])
    assert release.error is not None
    assert (release.phase, release.error.message) == ("ABORTED", "aborted by me: not today")
    assert isinstance(answer(shard, True), Rejected)


def test_a_later_attempt_finds_the_answer_in_its_journal() -> None:
    shard = Shard()
    work = parent(shard, Policy(retries=1))
    shard.tick(asked(work))
    answer(shard, True)
    (again,) = works(shard.tick(Failed(RUN, 0, work.token, OOPS)).agents_now["a"])
    (entry,) = again.journal
    assert (entry.id, decode_scalar(entry.output)) == (ID, True)


def test_a_condition_that_waits_goes_on_while_its_parent_is_retried() -> None:
    shard = Shard()
    work = parent(shard, Policy(retries=1))
    shard.tick(asked(work))
    (again,) = works(shard.tick(Failed(RUN, 0, work.token, OOPS)).agents_now["a"])
    shard.tick(asked(again))
    assert isinstance(answer(shard, True), Accepted)
    (release,) = releases(shard.last.agents_durable["a"])
    assert release.token == again.token


def test_a_condition_that_nobody_waits_for_ends_with_its_parent() -> None:
    shard = Shard()
    work = parent(shard)
    shard.tick(asked(work))
    shard.tick(Succeeded(RUN, 0, work.token, None, "w", 1, 2))
    assert (shard.run.phase, shard.run.actions[1].phase) == ("SUCCEEDED", Phase.ABORTED)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"expects": "list"}, "invalid"),
        ({"extras": ConditionExtras(timeout_ms=-1)}, "invalid"),
        ({"prompt": "x" * 70_000}, "too-large"),
    ],
)
def test_a_condition_that_cannot_be_recorded_is_refused(
    fields: dict[str, object], code: str
) -> None:
    shard = Shard()
    effects = shard.tick(asked(parent(shard), **fields))
    (refusal,) = effects.agents_now["a"]
    assert isinstance(refusal, Refuse)
    assert (refusal.code, refusal.retry_after_ms) == (code, 0)
    assert len(shard.run.actions) == 1


# ------------------------------------------------------------------ webhooks


def notices(orders: list[Order]) -> list[Notify]:
    return [order for order in orders if isinstance(order, Notify)]


def test_a_webhook_is_called_once_the_condition_is_durable_and_noted_once() -> None:
    shard = Shard()
    effects = shard.tick(
        asked(parent(shard), webhook="http://h", extras=ConditionExtras(payload="{}"))
    )
    assert notices(effects.agents_now["a"]) == []
    assert notices(effects.agents_durable["a"]) == [Notify(RUN, ID, 1, "http://h", "{}")]
    shard.tick(Notified(RUN, ID, "delivered"))
    shard.tick(Notified(RUN, ID, "delivered"))
    assert shard.run.notes == (("webhook", "1 delivered"),)
    shard.take_over()
    shard.now_ms += 600_000
    assert notices(shard.tick().agents_durable["a"]) == []


def test_a_new_leader_has_a_webhook_called_that_nobody_reported_on() -> None:
    shard = Shard()
    shard.tick(asked(parent(shard), webhook="http://h"))
    shard.take_over()
    assert notices(shard.join().agents_durable["a"]) == []
    shard.now_ms += 2_000
    assert len(notices(shard.tick().agents_durable["a"])) == 1


def test_a_webhook_whose_agent_is_silent_is_given_to_one_that_is_there_a_few_times() -> None:
    shard = Shard(agent_lost_ms=10**9)
    shard.tick(asked(parent(shard), webhook="http://h"))
    given = []
    for _ in range(6):
        shard.now_ms += 120_000
        shard.join("b")
        effects = shard.tick()
        given += notices(effects.agents_durable["b"])
    assert len(given) <= 2
    assert shard.run.actions[1].state == State.WAITING


@pytest.mark.parametrize("value", [True, False, 0, -(2**63), 2**63, 0.5, "", "ja"])
def test_answers_keep_their_type(value: Scalar) -> None:
    found = decode_scalar(encode_scalar(value))
    assert (found, type_name(found)) == (value, type(value).__name__)


def test_an_integer_that_cannot_be_recorded_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        encode_scalar(2**70)
