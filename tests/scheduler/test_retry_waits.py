"""When a failed attempt comes back: bounded, spread by a hash, the same in every replay."""

import math
from itertools import product

import pytest

from millstream_events.state import ActionState
from millstream_events.values import Backoff, ErrorRecord, Policy, TaskRef
from millstream_scheduler.retry import Retry, backoff_ms, next_attempt, spread_of

WEEK_MS = 7 * 24 * 3600 * 1000
OOPS = ErrorRecord("user", "ValueError", "oops")


def action(policy: Policy, *, user: int = 1, system: int = 0) -> ActionState:
    return ActionState(
        *(b"a" * 10, 0, "task", TaskRef("t"), None),
        policy=policy,
        attempt=user + system,
        user_failures=user,
        system_failures=system,
    )


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff(), [0, 0, 0]),
        (Backoff(100), [100, 100, 100]),
        (Backoff(100, 2.0), [100, 200, 400]),
        (Backoff(100, 2.0, 250), [100, 200, 250]),
        (Backoff(1000, 0.5), [1000, 500, 250]),
        (Backoff(-5, 2.0), [0, 0, 0]),
    ],
)
def test_a_wait_grows_by_the_factor_up_to_the_cap(backoff: Backoff, waits: list[int]) -> None:
    assert [backoff_ms(backoff, failures=n, spread=0.0) for n in (1, 2, 3)] == waits


def test_jitter_adds_up_to_a_quarter() -> None:
    waits = [backoff_ms(Backoff(1000), failures=1, spread=n / 100) for n in range(100)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (1000, 1247)


@pytest.mark.parametrize("factor", [1.0, 2.0, 1e9, 1e300, math.inf, math.nan, -3.0, 0.0])
def test_no_policy_waits_for_longer_than_a_week_or_shorter_than_nothing(factor: float) -> None:
    for failures, spread, cap_ms, first_ms in product(
        (1, 2, 10, 64, 65, 10_000), (0.0, 0.999), (0, 50, 10**15, -1), (1, 10**9, 10**400)
    ):
        wait_ms = backoff_ms(Backoff(first_ms, factor, cap_ms), failures=failures, spread=spread)
        assert 0 <= wait_ms <= WEEK_MS
        if cap_ms > 0:
            assert wait_ms <= cap_ms * 1.25


def test_the_spread_is_the_same_in_every_replay_and_differs_between_attempts() -> None:
    spreads = {spread_of("run", bytes([n]) * 10, attempt) for n in range(50) for attempt in (1, 2)}
    assert len(spreads) == 100
    assert all(0 <= spread < 1 for spread in spreads)
    assert spread_of("run", b"a" * 10, 1) == spread_of("run", b"a" * 10, 1)
    assert 0.3 < sum(spreads) / 100 < 0.7


@pytest.mark.parametrize(("failures", "again"), [(1, True), (2, True), (3, False)])
def test_user_errors_use_up_the_retries(failures: int, again: bool) -> None:
    retry = next_attempt("r", action(Policy(retries=2), user=failures, system=7), OOPS)
    assert (retry is not None) == again
    if retry is not None:
        assert retry == Retry(failures + 8, 0, "user")


@pytest.mark.parametrize(("failures", "again"), [(1, True), (3, True), (4, False)])
def test_lost_workers_use_up_their_own_budget_and_come_back_at_once(
    failures: int, again: bool
) -> None:
    lost = ErrorRecord("system", "WorkerLostError", "lost")
    policy = Policy(retries=0, system_retries=3, backoff=Backoff(1000))
    retry = next_attempt("r", action(policy, user=0, system=failures), lost)
    assert retry == (Retry(failures + 1, 0, "system") if again else None)


@pytest.mark.parametrize("kind", ["user", "system", "oom", "timeout", "dependency"])
def test_what_is_not_retryable_never_comes_back(kind: str) -> None:
    error = ErrorRecord(kind, "E", "no", retryable=False)
    assert next_attempt("r", action(Policy(retries=9, system_retries=9)), error) is None
