"""The agent's core, input by input: credit, slots, parking, cancelling, losses."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from millstream_events.ids import Digest
from millstream_events.ports import OutputLine
from millstream_events.reports import (
    UNNUMBERED,
    AskChildren,
    AskJournal,
    Cancel,
    CancelChild,
    Credit,
    Failed,
    Forget,
    Goodbye,
    Hello,
    JournalPage,
    Lost,
    Order,
    Parked,
    RecordTrace,
    Refuse,
    Release,
    Repeat,
    Report,
    Returned,
    SayHello,
    StartAction,
    Started,
    Succeeded,
    ToAgent,
    Work,
)
from millstream_events.values import (
    WORKER_ALONE,
    WORKER_ASYNC,
    WORKER_THREAD,
    ErrorRecord,
    Inline,
    Policy,
    TaskRef,
)
from millstream_executor.agent_core import AgentCore
from millstream_executor.agent_state import CoreSettings
from millstream_executor.effects import (
    BundleFailed,
    BundleReady,
    Effect,
    FetchBlob,
    FetchBundle,
    KillWorker,
    PushBlob,
    ShipOutput,
    StartWorker,
)
from millstream_executor.fleet_types import WorkerExit
from millstream_executor.held import Stage
from millstream_executor.link import (
    AttemptBegan,
    AttemptEnded,
    BlobFetched,
    CallChild,
    CancelAttempt,
    Deliver,
    DeliverJournal,
    DeliverRefusal,
    Drain,
    DropChild,
    ForwardTrace,
    FromWorker,
    Ping,
    Pong,
    Printed,
    Ready,
    RunAttempt,
    StoreBlob,
    ToWorker,
    Unusable,
    WantBlob,
    WantJournal,
)

MS = 1_000_000
RUN = "lo00-00000000-00000001"
INC = "inc"
TASK = TaskRef("env.f", "m", "f", b"identity")
T = TypeVar("T")


class Rig:
    """A core, and everything that it has said so far."""

    def __init__(
        self,
        slots: int = 1,
        workers: int = 1,
        former: Sequence[Report] = (),
        processes_max: int = 64,
        parked_alone_max: int = 256,
    ) -> None:
        self.now = 10_000 * MS
        self.settings = CoreSettings(
            incarnation=INC,
            pool="p",
            region="lo",
            slots=slots,
            workers=workers,
            processes_max=processes_max,
            parked_alone_max=parked_alone_max,
        )
        self.core = AgentCore(self.settings, now_ns=self.now, former=former)
        self.up: list[Report] = []
        self.numbers: list[int] = []
        self.effects: list[Effect] = []
        self.told: list[tuple[str, ToWorker]] = []
        self.given: dict[bytes, str] = {}
        self.auto_ready = True
        self.take()

    def take(self) -> None:
        out = self.core.take(self.now)
        self.effects += out.effects
        for key, messages in out.messages.items():
            for message in messages:
                self.told.append((key, message))
                if isinstance(message, RunAttempt):
                    self.given[message.work.token] = key
        for up in out.ups:
            number = up.first
            for item in up.items:
                self.up.append(item)
                numbered = not isinstance(item, UNNUMBERED)
                self.numbers.append(number if numbered else 0)
                number += numbered
        starts = [effect.key for effect in out.effects if isinstance(effect, StartWorker)]
        if self.auto_ready and starts:
            for key in starts:
                self.core.on_worker(key, [Ready(100)], self.now)
            self.take()

    def orders(self, *items: Order, epoch: int = 1, acked: int = 0) -> None:
        self.core.on_orders(ToAgent(epoch, INC, acked, items), self.now)
        self.take()

    def worker(self, key: str, *messages: FromWorker) -> None:
        self.core.on_worker(key, messages, self.now)
        self.take()

    def exit(self, key: str, **fields: object) -> None:
        self.core.on_worker_exit(key, WorkerExit(**fields), self.now)  # type: ignore[arg-type]
        self.take()

    def wait(self, ms: int, *, step_ms: int = 0) -> None:
        for _ in range(ms // step_ms if step_ms else 1):
            self.now += (step_ms or ms) * MS
            self.core.on_tick(self.now)
            self.take()

    def work(self, n: int, *, action: int | None = None, **fields: object) -> Work:
        names: dict[str, object] = {
            "generation": self.core.state.credit.generation,
            "run": RUN,
            "action": n if action is None else action,
            "id": bytes([n]) * 10,
            "attempt": 1,
            "token": token(n),
            "task": TASK,
            "inputs": Inline("msgpack", bytes([n])),
        }
        return Work(**{**names, **fields})  # type: ignore[arg-type]

    def where(self, n: int) -> str:
        """Return the key of the worker that was given attempt `n`."""
        assert token(n) in self.given, f"attempt {n} was given to nobody"
        return self.given[token(n)]

    def begin(self, n: int, **fields: object) -> str:
        """Dispatch attempt `n` and let its worker say that it runs."""
        self.orders(self.work(n, **fields))
        key = self.where(n)
        self.worker(key, AttemptBegan(token(n), 5))
        return key

    def end(self, n: int, *, error: ErrorRecord | None = None, took_ns: int = 80 * MS) -> None:
        self.worker(self.where(n), ended(n, error=error, took_ns=took_ns))

    def call(self, n: int, child: int) -> None:
        self.worker(self.where(n), CallChild(call(n, child)))

    def said(self, kind: type[T]) -> list[T]:
        return [item for item in self.up if isinstance(item, kind)]

    def did(self, kind: type[T]) -> list[T]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def heard(self, kind: type[T]) -> list[T]:
        return [message for _, message in self.told if isinstance(message, kind)]

    def clear(self) -> None:
        self.up.clear()
        self.numbers.clear()
        self.effects.clear()
        self.told.clear()

    @property
    def granted(self) -> int:
        grants = [item for item in self.up if isinstance(item, Hello | Credit)]
        return grants[-1].granted


def token(n: int) -> bytes:
    return n.to_bytes(8, "big")


def child_id(n: int) -> bytes:
    return n.to_bytes(10, "big")


def call(n: int, child: int) -> StartAction:
    return StartAction(RUN, n, token(n), child_id(child), "task", TASK, None, b"")


def release(n: int, child: int) -> Release:
    return Release(RUN, token(n), child_id(child), 99, "SUCCEEDED")


def ended(n: int, *, error: ErrorRecord | None = None, took_ns: int = 80 * MS) -> AttemptEnded:
    return AttemptEnded(token(n), None, error, 1_000, 1_000 + took_ns)


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


def test_prefetched_work_that_no_slot_becomes_free_for_goes_back() -> None:
    rig = Rig()
    rig.begin(1)
    rig.end(1, took_ns=1_000)
    rig.orders(*[rig.work(n) for n in (2, 3, 4)])
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
    rig.begin(2)
    rig.call(2, 50)
    rig.begin(3)
    rig.orders(rig.work(4), release(2, 50))
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
    assert rig.core.state.held[token(1)].stage is Stage.PARKED


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


# ---------------------------------------------------------------------- workers


def test_attempts_of_one_class_spread_over_as_many_workers_as_allowed() -> None:
    rig = Rig(slots=4, workers=2)
    rig.orders(*[rig.work(n) for n in (1, 2, 3, 4)])
    keys = [rig.where(n) for n in (1, 2, 3, 4)]
    assert len(set(keys)) == 2
    assert sorted(keys.count(key) for key in set(keys)) == [2, 2]


@pytest.mark.parametrize(
    "other",
    [{"policy": Policy(worker=WORKER_THREAD)}, {"policy": Policy(env_vars=(("A", "1"),))}],
)
def test_another_kind_or_environment_is_another_process(other: dict[str, object]) -> None:
    rig = Rig(slots=2)
    rig.orders(rig.work(1), rig.work(2, **other))
    assert rig.where(1) != rig.where(2)


@pytest.mark.parametrize(
    "policy", [Policy(worker=WORKER_ALONE), Policy(memory_max_bytes=80 * 1024 * 1024)]
)
def test_an_attempt_alone_has_a_fresh_worker_that_ends_with_it(policy: Policy) -> None:
    rig = Rig(slots=2)
    rig.orders(rig.work(1, policy=policy), rig.work(2, policy=policy))
    assert rig.where(1) != rig.where(2)
    start = rig.did(StartWorker)[0]
    assert (start.spec.kind, start.spec.memory_max_bytes) == (
        WORKER_ALONE,
        policy.memory_max_bytes,
    )
    rig.end(1)
    assert (rig.where(1), Drain()) in rig.told
    rig.wait(6_000, step_ms=500)
    assert [kill.key for kill in rig.did(KillWorker)] == [rig.where(1)]


def test_work_waits_for_its_bundle_without_a_slot() -> None:
    rig = Rig(slots=2)
    bundle = Digest(b"b" * 32)
    rig.orders(rig.work(1, bundle=bundle), rig.work(2, bundle=bundle))
    assert rig.did(FetchBundle) == [FetchBundle(bundle)]
    assert rig.core.state.counts[Stage.RUNNING] == 0
    rig.core.on_bundle(bundle, BundleReady(Path("/b")), rig.now)
    rig.take()
    assert rig.where(1)
    assert rig.did(StartWorker)[0].spec.bundle_dir == Path("/b")


@pytest.mark.parametrize(("retryable", "kind"), [(True, Returned), (False, Failed)])
def test_a_bundle_that_cannot_be_had_fails_its_work_or_returns_it(
    retryable: bool, kind: type[Report]
) -> None:
    rig = Rig()
    bundle = Digest(b"b" * 32)
    rig.orders(rig.work(1, bundle=bundle))
    rig.core.on_bundle(bundle, BundleFailed("code", "why", retryable), rig.now)
    rig.take()
    assert len(rig.said(kind)) == 1
    assert not rig.core.state.held


def test_an_idle_worker_makes_room_for_another_class_and_work_without_room_goes_back() -> None:
    rig = Rig(slots=3, processes_max=2)
    rig.begin(1)
    rig.end(1)
    rig.orders(
        rig.work(2, policy=Policy(worker=WORKER_ALONE)),
        rig.work(3, policy=Policy(worker=WORKER_ALONE)),
        rig.work(4, policy=Policy(worker=WORKER_ALONE)),
    )
    assert (rig.where(1), Drain()) in rig.told
    assert [(item.token, item.why) for item in rig.said(Returned)] == [(token(4), "memory")]


def test_a_worker_without_work_for_long_is_stopped() -> None:
    rig = Rig()
    key = rig.begin(1)
    rig.end(1)
    rig.wait(299_000)
    assert not rig.heard(Drain)
    rig.wait(2_000)
    assert (key, Drain()) in rig.told


def test_a_crashed_worker_loses_its_attempts_and_frees_their_slots_at_once() -> None:
    rig = Rig(slots=2)
    key = rig.begin(1)
    rig.begin(2)
    rig.clear()
    rig.exit(key, status=-1, signal=11)
    assert [(item.action, item.why) for item in rig.said(Lost)] == [
        (1, "worker-crashed"),
        (2, "worker-crashed"),
    ]
    assert ("signal", 11) in rig.said(Lost)[0].figures
    assert rig.granted == 4


def test_an_attempt_over_its_memory_limit_fails_with_limit_and_peak() -> None:
    rig = Rig()
    key = rig.begin(1, policy=Policy(memory_max_bytes=100))
    rig.exit(key, status=-1, signal=9, oom=True, limit_bytes=100, peak_bytes=99)
    (failed,) = rig.said(Failed)
    assert (failed.error.kind, failed.error.type) == ("oom", "OOMError")
    assert dict(failed.error.figures) == {"limit_bytes": 100, "peak_bytes": 99}


def test_after_two_shared_crashes_the_same_call_runs_alone() -> None:
    rig = Rig(slots=2)
    for n in (1, 3):
        same = {"inputs": Inline("msgpack", b"poison")}
        key = rig.begin(n, **same)
        rig.begin(n + 1)
        rig.exit(key, status=-1, signal=11)
    rig.clear()
    rig.begin(5, inputs=Inline("msgpack", b"poison"))
    rig.begin(6)
    assert [start.spec.kind for start in rig.did(StartWorker)] == [WORKER_ALONE, WORKER_ASYNC]


def test_a_worker_that_cannot_load_its_bundle_fails_its_attempts_for_good() -> None:
    rig = Rig()
    rig.auto_ready = False
    rig.orders(rig.work(1))
    key = rig.did(StartWorker)[0].key
    rig.worker(key, Ready(1), Unusable(ErrorRecord("user", "ImportError", "no numpy")))
    (failed,) = rig.said(Failed)
    assert (failed.error.kind, failed.error.retryable) == ("dependency", False)
    assert [kill.key for kill in rig.did(KillWorker)] == [key]


def test_a_worker_that_never_began_loses_its_attempt() -> None:
    rig = Rig()
    rig.auto_ready = False
    rig.orders(rig.work(1))
    rig.exit(rig.did(StartWorker)[0].key, status=-1, reason="fork failed")
    assert [item.why for item in rig.said(Lost)] == ["worker-not-started"]


def test_blobs_and_output_are_passed_on_also_after_the_end() -> None:
    rig = Rig()
    key = rig.begin(1)
    rig.worker(key, WantBlob(b"d"), StoreBlob(b"e", 9))
    assert rig.did(FetchBlob) == [FetchBlob(key, Digest(b"d"))]
    assert rig.did(PushBlob) == [PushBlob(key, Digest(b"e"), 9)]
    rig.core.tell_worker(key, BlobFetched(b"d"))
    rig.take()
    assert rig.heard(BlobFetched)
    rig.end(1)
    rig.worker(key, Printed(token(1), (OutputLine(1, 1, "late"),)))
    (shipped,) = rig.did(ShipOutput)
    assert (shipped.batch.run, shipped.batch.action) == (RUN, 1)


def test_traces_are_numbered_reports() -> None:
    rig = Rig()
    key = rig.begin(1)
    trace = RecordTrace(RUN, 1, token(1), b"t", "step", b"", None, None, 0, 1)
    rig.worker(key, ForwardTrace(trace))
    assert rig.said(RecordTrace) == [trace]


# ---------------------------------------------------------------------- cancelling


def test_cancelled_work_that_never_began_is_reported_and_never_run() -> None:
    rig = Rig()
    bundle = Digest(b"b" * 32)
    rig.orders(rig.work(1, bundle=bundle))
    rig.orders(Cancel(token(1), 10_000, "aborted"))
    (failed,) = rig.said(Failed)
    assert failed.error.kind == "cancelled"
    rig.core.on_bundle(bundle, BundleReady(Path("/b")), rig.now)
    rig.take()
    assert not rig.told


def test_an_attempt_that_ends_within_its_grace_is_reported_as_cancelled() -> None:
    rig = Rig()
    rig.begin(1)
    rig.orders(Cancel(token(1), 10_000, "aborted"))
    assert rig.heard(CancelAttempt) == [CancelAttempt(token(1), "aborted")]
    rig.end(1)
    assert [item.error.kind for item in rig.said(Failed)] == ["cancelled"]
    assert not rig.said(Succeeded)


def test_an_attempt_alone_is_killed_after_its_grace() -> None:
    rig = Rig()
    key = rig.begin(1, policy=Policy(worker=WORKER_ALONE))
    rig.orders(Cancel(token(1), 500, "aborted"))
    rig.wait(400)
    assert not rig.did(KillWorker)
    rig.wait(200)
    assert [kill.key for kill in rig.did(KillWorker)] == [key]
    assert [item.error.kind for item in rig.said(Failed)] == ["cancelled"]
    rig.exit(key, status=-1, signal=9)
    assert not rig.said(Lost)


def test_a_shared_worker_outlives_the_attempt_that_cannot_be_cancelled_until_it_is_empty() -> None:
    rig = Rig(slots=2)
    key = rig.begin(1)
    rig.begin(2)
    rig.orders(Cancel(token(1), 500, "aborted"))
    rig.wait(600)
    assert [item.action for item in rig.said(Failed)] == [1]
    assert not rig.did(KillWorker)
    rig.begin(3)
    assert rig.where(3) != key
    rig.end(2)
    assert [kill.key for kill in rig.did(KillWorker)] == [key]
    assert [item.action for item in rig.said(Succeeded)] == [2]


def test_a_draining_worker_whose_loop_is_blocked_is_killed_and_its_others_are_lost() -> None:
    rig = Rig(slots=2)
    key = rig.begin(1)
    rig.begin(2)
    rig.orders(Cancel(token(1), 500, "aborted"))
    for _ in range(20):
        rig.wait(500)
        for number in [ping.number for ping in rig.heard(Ping)]:
            rig.worker(key, Pong(number))
    assert not rig.did(KillWorker)
    rig.wait(10_000, step_ms=500)
    assert [kill.key for kill in rig.did(KillWorker)] == [key]
    assert {(item.action, item.why) for item in rig.said(Lost)} == {(2, "worker-blocked")}


@pytest.mark.parametrize("why", ["timeout", "superseded"])
def test_an_attempt_whose_end_the_leader_has_decided_ends_without_a_word(why: str) -> None:
    rig = Rig()
    rig.begin(1)
    rig.orders(Cancel(token(1), 500, why))
    rig.clear()
    rig.end(1)
    assert [type(item) for item in rig.up] == [Credit]


def test_a_forgotten_attempt_is_killed_and_nothing_is_reported() -> None:
    rig = Rig()
    key = rig.begin(1)
    rig.orders(Forget(token(1)))
    rig.wait(1_100)
    assert [kill.key for kill in rig.did(KillWorker)] == [key]
    assert not [item for item in rig.up if isinstance(item, Succeeded | Failed | Lost)]


def test_a_newer_attempt_of_an_action_begins_only_when_the_older_one_is_gone() -> None:
    rig = Rig(slots=2)
    key = rig.begin(1, action=7)
    rig.orders(rig.work(2, action=7))
    assert rig.heard(CancelAttempt) == [CancelAttempt(token(1), "superseded")]
    assert len(rig.heard(RunAttempt)) == 1
    rig.wait(1_100)
    assert [kill.key for kill in rig.did(KillWorker)] == [key]
    assert rig.where(2) != key
    rig.end(2)
    assert [item.token for item in rig.said(Succeeded)] == [token(2)]


# ---------------------------------------------------------------------- leaving


def test_a_leaving_agent_returns_what_has_not_begun_and_grants_nothing() -> None:
    rig = Rig()
    rig.begin(1)
    rig.end(1, took_ns=1_000)
    rig.begin(2)
    rig.orders(rig.work(3))
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
