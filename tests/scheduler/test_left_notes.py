"""What attempts leave behind is kept with their action, and reaches the next attempt."""

from sim_shard import RUN, Shard, works

from millstream_events import model as m
from millstream_events.reports import (
    CHECKPOINT_KEY,
    Annotate,
    Diverged,
    Failed,
    Forget,
    Succeeded,
    Work,
    report_key,
)
from millstream_events.values import ErrorRecord, Inline, Policy

OOPS = ErrorRecord("user", "ValueError", "oops")


def started(shard: Shard, policy: Policy | None = None) -> Work:
    shard.join()
    (work,) = works(shard.submit(policy).agents_now["a"])
    return work


def note(work: Work, content: bytes, key: str = CHECKPOINT_KEY) -> Annotate:
    return Annotate(RUN, work.action, work.token, key, Inline("bytes", content))


def test_the_next_attempt_gets_the_last_checkpoint_and_no_report() -> None:
    shard = Shard()
    work = started(shard, Policy(retries=1))
    assert work.kept == ()
    shard.tick(note(work, b"1"), note(work, b"2"), note(work, b"page", report_key(1)))
    assert shard.run.actions[0].kept["report/1"] == Inline("bytes", b"page")
    (again,) = works(shard.tick(Failed(RUN, 0, work.token, OOPS)).agents_now["a"])
    assert again.kept == ((CHECKPOINT_KEY, Inline("bytes", b"2")),)


def test_an_attempt_that_is_over_leaves_nothing_more_behind() -> None:
    shard = Shard()
    work = started(shard, Policy(retries=1))
    shard.tick(Failed(RUN, 0, work.token, OOPS))
    effects = shard.tick(note(work, b"late"), Diverged(RUN, 0, work.token, (b"x",), b"", "warn"))
    assert Forget(work.token) in effects.agents_now["a"]
    assert shard.run.actions[0].kept == {}


def test_what_is_too_large_for_the_log_is_not_kept() -> None:
    shard = Shard()
    work = started(shard)
    shard.tick(note(work, bytes(100_000)))
    assert shard.run.actions[0].kept == {}


def test_a_divergence_is_recorded_with_its_attempt() -> None:
    shard = Shard()
    work = started(shard, Policy(retries=1))
    (again,) = works(shard.tick(Failed(RUN, 0, work.token, OOPS)).agents_now["a"])
    shard.tick(
        Diverged(RUN, 0, again.token, (b"expected",), b"requested", "fail"),
        Succeeded(RUN, 0, again.token, None, "w", 1, 2),
    )
    (found,) = [event for event in shard.events if isinstance(event, m.DivergenceDetected)]
    assert (found.attempt, found.expected, found.requested, found.policy) == (
        2,
        (b"expected",),
        b"requested",
        "fail",
    )
