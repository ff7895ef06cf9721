"""Which worker an attempt goes to, how workers end, and how attempts are ended."""

from pathlib import Path

import pytest
from agent_rig import RUN, Rig, token

from millstream_events.ids import Digest
from millstream_events.ports import OutputLine
from millstream_events.reports import (
    Annotate,
    Cancel,
    Credit,
    Diverged,
    Failed,
    Forget,
    Lost,
    RecordTrace,
    Report,
    Returned,
    Succeeded,
)
from millstream_events.values import (
    WORKER_ALONE,
    WORKER_ASYNC,
    WORKER_THREAD,
    ErrorRecord,
    Inline,
    Policy,
)
from millstream_executor.effects import (
    BundleFailed,
    BundleReady,
    FetchBlob,
    FetchBundle,
    KillWorker,
    PushBlob,
    ShipOutput,
    StartWorker,
)
from millstream_executor.held import Stage
from millstream_executor.link import (
    BlobFetched,
    CancelAttempt,
    Drain,
    ForwardDivergence,
    ForwardTrace,
    Keep,
    Kept,
    Ping,
    Pong,
    Printed,
    Ready,
    RunAttempt,
    StoreBlob,
    Unusable,
    WantBlob,
)

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


# ---------------------------------------------------------------------- what is left behind


def test_a_worker_hears_that_its_checkpoint_is_durable_once_the_leader_says_so() -> None:
    rig = Rig()
    key = rig.begin(1)
    note = Annotate(RUN, 1, token(1), "checkpoint", Inline("bytes", b"w"))
    rig.worker(key, Keep(7, note))
    assert rig.said(Annotate) == [note]
    rig.orders(acked=0)
    assert not rig.heard(Kept)
    rig.orders(acked=rig.core.state.outbox.next - 1)
    assert rig.heard(Kept) == [Kept(token(1), 7)]


def test_what_an_attempt_leaves_after_it_was_given_up_is_not_reported() -> None:
    rig = Rig()
    key = rig.begin(1)
    rig.orders(Forget(token(1)))
    rig.worker(key, Keep(1, Annotate(RUN, 1, token(1), "checkpoint", Inline("bytes", b"w"))))
    rig.worker(key, ForwardDivergence(Diverged(RUN, 1, token(1), (b"e",), b"", "warn")))
    assert rig.said(Annotate) == rig.said(Diverged) == []
