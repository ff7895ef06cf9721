"""Kept workers, environments and secrets, as the agent's core decides."""

from pathlib import Path

import pytest
from agent_rig import Rig

from millstream_events.ids import Digest
from millstream_events.ports import OutputLine
from millstream_events.reports import Failed, Report, Returned
from millstream_events.values import (
    WORKER_ALONE,
    WORKER_THREAD,
    ErrorRecord,
    Needs,
    Policy,
    Reuse,
    SecretRef,
)
from millstream_executor.effects import (
    BundleReady,
    EnvironmentFailed,
    EnvironmentReady,
    EnvironmentResult,
    MakeEnvironment,
    ShipOutput,
    StartWorker,
)
from millstream_executor.held import Stage
from millstream_executor.link import Drain, Unusable

IMAGE = Digest(b"i" * 32)
BUNDLE = Digest(b"b" * 32)
RENDERED = Policy(needs=Needs(image=IMAGE))


def kept(
    replicas: tuple[int, int] = (0, 2), concurrency: int = 1, *, per_run: bool = False
) -> Policy:
    reuse = Reuse("env", *replicas, concurrency, 30_000, 60_000, per_run)
    return Policy(needs=Needs(reuse=reuse))


# ---------------------------------------------------------------------- kept workers


def test_a_kept_worker_is_used_again_and_started_by_demand() -> None:
    rig = Rig(slots=4)
    rig.orders(rig.work(1, policy=kept()))
    rig.end(1)
    rig.orders(rig.work(2, policy=kept()), rig.work(3, policy=kept()))
    assert rig.where(1) == rig.where(2) != rig.where(3)
    assert len(rig.did(StartWorker)) == 2


def test_no_more_attempts_than_replicas_and_concurrency_allow() -> None:
    rig = Rig(slots=8)
    policy = kept((1, 2), 2)
    rig.orders(*[rig.work(n, policy=policy) for n in range(1, 7)])
    places = [rig.where(n) for n in range(1, 5)]
    assert len(set(places)) == 2
    assert rig.core.state.counts[Stage.QUEUED] == 2
    rig.end(1)
    assert rig.where(5) == rig.where(1)
    rig.end(2)
    rig.end(3)
    assert rig.where(6)
    assert not rig.core.state.kept_waiting


def test_what_waits_for_a_kept_worker_is_no_obstacle_to_others() -> None:
    rig = Rig(slots=2)
    policy = kept((1, 1), 1)
    rig.orders(rig.work(1, policy=policy), rig.work(2, policy=policy))
    rig.wait(200, step_ms=50)
    assert rig.said(Returned) == [], "it goes on waiting here"
    rig.orders(rig.work(3))
    assert rig.where(3)


def test_a_kept_worker_takes_one_slot_for_all_its_attempts() -> None:
    rig = Rig(slots=1)
    policy = kept((1, 1), 8)
    for n in range(1, 9):
        rig.orders(rig.work(n, policy=policy))
        assert rig.where(n) == rig.where(1)
    assert rig.core.state.counts[Stage.RUNNING] == 8


@pytest.mark.parametrize(
    "other",
    [
        {"run": "lo00-00000000-00000002", "policy": kept(per_run=True)},
        {"bundle": BUNDLE},
        {"policy": Policy(env_vars=(("A", "1"),), needs=kept().needs)},
        {"policy": Policy(worker=WORKER_THREAD, needs=kept().needs)},
        {"policy": Policy(memory_max_bytes=10**8, needs=kept().needs)},
        {"policy": Policy()},
    ],
)
def test_other_code_settings_or_runs_have_workers_of_their_own(other: dict[str, object]) -> None:
    rig = Rig(slots=4)
    rig.core.state.bundles[BUNDLE] = Path("/b")
    own = kept(per_run=True) if "run" in other else kept()
    rig.orders(rig.work(1, policy=own))
    rig.end(1)
    rig.orders(rig.work(2, **{"policy": own, **other}))
    assert rig.where(1) != rig.where(2)


def test_a_waiting_parent_leaves_its_place_to_its_child() -> None:
    rig = Rig(slots=2)
    policy = kept((1, 1), 1)
    rig.orders(rig.work(1, policy=policy))
    rig.call(1, 5)
    rig.orders(rig.work(2, policy=policy))
    assert rig.where(2) == rig.where(1)


def test_one_idle_worker_goes_after_its_own_time_and_all_after_the_environments() -> None:
    rig = Rig(slots=4)
    reuse = Reuse("env", 1, 3, 1, idle_ms=120_000, scaledown_ms=60_000)
    policy = Policy(needs=Needs(reuse=reuse))
    rig.orders(*[rig.work(n, policy=policy) for n in (1, 2, 3)])
    for n in (1, 2, 3):
        rig.end(n)

    def ended() -> int:
        return sum(isinstance(message, Drain) for _, message in rig.told)

    rig.wait(59_000, step_ms=1_000)
    assert ended() == 0
    rig.wait(3_000, step_ms=1_000)
    assert ended() == 2, "one stays: replicas=(1, 3)"
    rig.wait(60_000, step_ms=1_000)
    assert ended() == 3


def test_a_limit_of_memory_holds_for_a_kept_worker() -> None:
    rig = Rig()
    rig.orders(rig.work(1, policy=Policy(memory_max_bytes=10**8, needs=kept().needs)))
    spec = rig.did(StartWorker)[0].spec
    assert spec.memory_max_bytes == 10**8
    assert spec.kind != WORKER_ALONE


# ---------------------------------------------------------------------- environments


def test_work_waits_for_its_environment_and_its_code_without_a_slot() -> None:
    rig = Rig(slots=2)
    rig.orders(*[rig.work(n, policy=RENDERED, bundle=BUNDLE) for n in (1, 2)])
    assert rig.did(MakeEnvironment) == [MakeEnvironment(IMAGE)]
    rig.core.on_bundle(BUNDLE, BundleReady(Path("/b")), rig.now)
    rig.orders(rig.work(3))
    assert rig.where(3), "others have the slots meanwhile"
    made = EnvironmentReady("/venv/python", "/work", (("A", "image"), ("B", "image")))
    rig.core.on_environment(IMAGE, made, rig.now)
    rig.take()
    spec = rig.did(StartWorker)[-1].spec
    assert (spec.python, spec.cwd, spec.bundle_dir) == (
        "/venv/python", Path("/work"), Path("/b"),
    )  # fmt: skip
    assert spec.env_vars == (("A", "image"), ("B", "image"))
    rig.end(3)
    assert rig.where(1) != rig.where(3)


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (EnvironmentFailed("ImageBuildError", "no", retryable=False), Failed),
        (EnvironmentFailed("LogUnavailableError", "no", retryable=True), Returned),
    ],
)
def test_an_environment_that_cannot_be_had_fails_its_work_or_returns_it(
    result: EnvironmentResult, kind: type[Report]
) -> None:
    rig = Rig()
    rig.orders(rig.work(1, policy=RENDERED))
    rig.core.on_environment(IMAGE, result, rig.now)
    rig.take()
    (said,) = rig.said(kind)
    if isinstance(said, Failed):
        assert (said.error.type, said.error.retryable) == ("ImageBuildError", False)
    rig.wait(1_500)
    rig.orders(rig.work(2, policy=RENDERED))
    assert len(rig.did(MakeEnvironment)) == 2, "it is tried again by the next"


def test_how_a_build_goes_on_is_shown_to_all_who_wait_for_it() -> None:
    rig = Rig(slots=2)
    rig.orders(rig.work(1, policy=RENDERED), rig.work(2, policy=RENDERED))
    line = OutputLine(1, 2, "Resolved 3 packages")
    rig.core.on_progress(IMAGE, (line,))
    rig.take()
    assert [effect.batch.action for effect in rig.did(ShipOutput)] == [1, 2]
    assert rig.did(ShipOutput)[0].batch.lines == (line,)


# ---------------------------------------------------------------------- secrets


def test_work_with_secrets_has_a_worker_alone_that_is_told_their_names() -> None:
    rig = Rig(slots=2)
    policy = Policy(needs=Needs(secrets=(SecretRef("k", "", "K"),)))
    rig.orders(rig.work(1, policy=policy), rig.work(2, policy=policy))
    assert rig.where(1) != rig.where(2)
    spec = rig.did(StartWorker)[0].spec
    assert (spec.kind, spec.secrets) == (WORKER_ALONE, (SecretRef("k", "", "K"),))


def test_a_worker_that_is_not_started_for_want_of_a_secret_fails_its_work() -> None:
    rig = Rig()
    rig.auto_ready = False
    policy = Policy(needs=Needs(secrets=(SecretRef("k", "", "K"),)))
    rig.orders(rig.work(1, policy=policy))
    key = rig.did(StartWorker)[0].key
    error = ErrorRecord("dependency", "SecretNotFoundError", "k", retryable=False)
    rig.worker(key, Unusable(error))
    rig.exit(key, status=-1, reason="it was not started")
    (failed,) = rig.said(Failed)
    assert failed.error == error
    assert key not in rig.core.state.crew.members
