"""Decisions about calls that wait for each other's result, on the real core."""

from collections.abc import Iterator

import pytest
from sim_shard import RUN, Shard, works

from millstream_events import model as m
from millstream_events.audit import audit
from millstream_events.commands import AbortAction, AbortRun, PauseRun, ResumeRun, SubmitRun
from millstream_events.phases import Phase, State
from millstream_events.reports import Failed, StartAction, Started, Succeeded, Work
from millstream_events.state import ActionState
from millstream_events.values import (
    CACHE_LOOK_UP,
    CACHE_SERIALIZED,
    Blob,
    ErrorRecord,
    Inline,
    Policy,
    TaskRef,
    Value,
)

ONE = Inline("msgpack", b"\x01")
LARGE = Blob(bytes(32), 9000, "msgpack")
OOPS = ErrorRecord("user", "ValueError", "oops")
SCOPED = (("cache_scope", "project-domain"),)


def run_id(number: int) -> str:
    return RUN[:-1] + "abcdefgh"[number]


def ask(
    shard: Shard,
    number: int,
    *,
    key: bytes = b"k",
    mode: int = CACHE_SERIALIZED,
    max_age_ms: int = 0,
    project: str = "",
    settings: tuple[tuple[str, str], ...] = (),
) -> list[Work]:
    """Ask for a run whose root is cached; return what is dispatched."""
    command = SubmitRun(
        bytes([number]) * 16,
        run_id(number),
        TaskRef("t"),
        project=project,
        policy=Policy(cache_max_age_ms=max_age_ms),
        cache_key=key,
        cache_mode=mode,
        settings=settings,
    )
    return works(shard.tick(commands=[command]).agents_now["a"])


def call(
    work: Work, name: bytes, *, key: bytes = b"k", mode: int = CACHE_SERIALIZED
) -> StartAction:
    return StartAction(
        work.run, work.action, work.token, name.ljust(10, b"-"), "task", TaskRef("c"), None, b"h",
        cache_key=key, cache_mode=mode,
    )  # fmt: skip


def done(work: Work, output: Value = ONE) -> Succeeded:
    return Succeeded(work.run, work.action, work.token, output, "w", 1, 2)


def failed(work: Work) -> Failed:
    return Failed(work.run, work.action, work.token, OOPS, "w", 1, 2)


def root(shard: Shard, number: int) -> ActionState:
    return shard.book.state.runs[run_id(number)].actions[0]


@pytest.fixture
def shard() -> Iterator[Shard]:
    """A shard with one agent; in the end its log breaks no invariant."""
    made = Shard()
    made.join()
    yield made
    assert audit(made.log, quiescent=False).violations == ()


def test_an_identical_call_is_held_and_takes_the_winners_result(shard: Shard) -> None:
    (winner,) = ask(shard, 0)
    assert not ask(shard, 1)
    waiting = root(shard, 1)
    assert (waiting.phase, waiting.why_held) == (Phase.WAITING_FOR_RESOURCES, "cache")
    assert run_id(0) in waiting.held
    shard.tick(done(winner))
    assert (waiting.output, waiting.cached, waiting.attempt) == (ONE, True, 1)
    assert (waiting.source_run, waiting.source_action) == (run_id(0), 0)
    assert shard.book.state.runs[run_id(1)].finished
    assert shard.book.state.flights == {}


def test_a_call_that_does_not_ask_to_wait_does_not(shard: Shard) -> None:
    assert ask(shard, 0)
    assert ask(shard, 1, mode=CACHE_LOOK_UP)


def test_when_the_owner_fails_the_next_in_order_takes_over(shard: Shard) -> None:
    (first,) = ask(shard, 0)
    assert not ask(shard, 1)
    assert not ask(shard, 2)
    (second,) = works(shard.tick(failed(first)).agents_now["a"])
    assert second.run == run_id(1)
    assert root(shard, 2).state == State.HELD
    shard.tick(done(second))
    assert root(shard, 2).source_run == run_id(1)


@pytest.mark.parametrize("whole_run", [True, False])
def test_when_the_owner_is_aborted_the_next_takes_over(shard: Shard, whole_run: bool) -> None:
    (first,) = ask(shard, 0)
    assert not ask(shard, 1)
    abort = AbortRun(b"a" * 16, run_id(0)) if whole_run else AbortAction(b"a" * 16, run_id(0), 0)
    assert not works(shard.tick(commands=[abort]).agents_now["a"])  # It may still be running.
    cancelled = ErrorRecord("cancelled", "CancelledError", "aborted", retryable=False)
    ended = Failed(first.run, 0, first.token, cancelled, "w", 1, 2)
    (second,) = works(shard.tick(ended).agents_now["a"])
    assert second.run == run_id(1)


def test_an_aborted_waiter_waits_no_more(shard: Shard) -> None:
    (first,) = ask(shard, 0)
    assert not ask(shard, 1)
    shard.tick(commands=[AbortRun(b"a" * 16, run_id(1))])
    assert root(shard, 1).state == State.ABORTED
    assert not works(shard.tick(failed(first)).agents_now["a"])


def test_a_new_leader_knows_who_computes_and_who_waits(shard: Shard) -> None:
    (first,) = ask(shard, 0)
    assert not ask(shard, 1)
    shard.take_over()
    shard.number = 1
    shard.join()
    assert not ask(shard, 2)
    shard.number = 1
    shard.tick(done(first))
    assert {root(shard, n).source_run for n in (1, 2)} == {run_id(0)}


def test_a_retry_keeps_the_reservation(shard: Shard) -> None:
    command = SubmitRun(
        b"1" * 16, run_id(0), TaskRef("t"), policy=Policy(retries=1), cache_key=b"k",
        cache_mode=CACHE_SERIALIZED,
    )  # fmt: skip
    (first,) = works(shard.tick(commands=[command]).agents_now["a"])
    assert not ask(shard, 1)
    (again,) = works(shard.tick(failed(first)).agents_now["a"])
    assert (again.run, again.attempt) == (run_id(0), 2)
    shard.tick(done(again))
    assert root(shard, 1).cached


def test_a_call_below_the_owner_of_its_key_computes_by_itself(shard: Shard) -> None:
    (outer,) = ask(shard, 0)
    (inner,) = works(shard.tick(call(outer, b"c")).agents_now["a"])
    shard.tick(done(inner), done(outer))
    assert shard.book.state.runs[run_id(0)].finished


def test_waiting_never_closes_a_circle(shard: Shard) -> None:
    (one,) = ask(shard, 0, key=b"1")
    (two,) = ask(shard, 1, key=b"2")
    assert not works(shard.tick(call(one, b"c", key=b"2")).agents_now["a"])
    # The second root's child would wait for the first root, which waits for the second.
    assert works(shard.tick(call(two, b"c", key=b"1")).agents_now["a"])


def test_a_paused_run_neither_takes_over_nor_is_forgotten(shard: Shard) -> None:
    (first,) = ask(shard, 0)
    assert not ask(shard, 1)
    assert not ask(shard, 2)
    shard.tick(commands=[PauseRun(b"p" * 16, run_id(1))])
    (third,) = works(shard.tick(failed(first)).agents_now["a"])
    assert third.run == run_id(2)
    shard.tick(commands=[ResumeRun(b"r" * 16, run_id(1))])
    assert root(shard, 1).state == State.HELD
    shard.tick(done(third))
    assert root(shard, 1).source_run == run_id(2)


def test_the_winners_success_comes_before_the_hits_in_the_log(shard: Shard) -> None:
    (outer,) = ask(shard, 0, key=b"")
    (winner,) = ask(shard, 1)
    shard.tick(call(outer, b"c"))
    # The waiting run is touched first in the tick, and by itself its frame would go first.
    shard.tick(Started(outer.run, 0, outer.token, "w", 1, 1), done(winner))
    hits = [event for event in shard.events if isinstance(event, m.CacheHit)]
    assert [event.source_run for event in hits] == [run_id(1)]


# ------------------------------------------------------------------ age, scope, whole runs


def test_a_result_that_is_too_old_is_computed_anew(shard: Shard) -> None:
    (first,) = ask(shard, 0, mode=CACHE_LOOK_UP)
    shard.tick(done(first))
    shard.now_ms += 500
    assert not ask(shard, 1, mode=CACHE_LOOK_UP, max_age_ms=500)
    shard.now_ms += 1
    (second,) = ask(shard, 2, mode=CACHE_LOOK_UP, max_age_ms=500)
    shard.tick(done(second))
    shard.now_ms += 100
    assert not ask(shard, 3, mode=CACHE_LOOK_UP, max_age_ms=500)
    assert root(shard, 3).source_run == run_id(2)


@pytest.mark.parametrize("mode", [CACHE_LOOK_UP, CACHE_SERIALIZED])
def test_a_scoped_run_takes_only_results_of_its_own_project(shard: Shard, mode: int) -> None:
    (red,) = ask(shard, 0, mode=mode, project="red")
    shard.tick(done(red))
    assert not ask(shard, 1, mode=mode, project="blue")
    (blue,) = ask(shard, 2, mode=mode, project="blue", settings=SCOPED)
    shard.tick(done(blue))
    # The newer result does not hide the older one from its own project.
    assert not ask(shard, 3, mode=mode, project="red", settings=SCOPED)
    assert root(shard, 3).source_run == run_id(0)
    assert not ask(shard, 4, mode=mode, project="blue", settings=SCOPED)
    assert root(shard, 4).source_run == run_id(2)


def test_a_scoped_run_waits_only_for_its_own_project(shard: Shard) -> None:
    assert ask(shard, 0, project="red")
    assert ask(shard, 1, project="blue", settings=SCOPED)
    assert not ask(shard, 2, project="blue", settings=SCOPED)


@pytest.mark.parametrize(("choice", "stored"), [("overwrite", True), ("disable", False)])
def test_a_runs_cache_setting_holds_for_all_its_actions(
    shard: Shard, choice: str, stored: bool
) -> None:
    (before,) = ask(shard, 0, mode=CACHE_LOOK_UP)
    shard.tick(done(before))
    (outer,) = ask(shard, 1, mode=CACHE_LOOK_UP, settings=(("cache", choice),))
    (inner,) = works(shard.tick(call(outer, b"c", mode=CACHE_LOOK_UP)).agents_now["a"])
    shard.tick(done(inner, Inline("x", b"2")))
    source = shard.book.state.cache[b"k"]
    assert (source.run == run_id(1)) is stored


# ------------------------------------------------------------------ blobs


@pytest.mark.parametrize("is_there", [True, False])
def test_a_result_in_the_blob_store_counts_while_the_blob_is_there(
    shard: Shard, is_there: bool
) -> None:
    (first,) = ask(shard, 0)
    shard.tick(done(first, LARGE))
    shard.now_ms += 10
    command = SubmitRun(b"1" * 16, run_id(1), TaskRef("t"), cache_key=b"k")
    effects = shard.tick(commands=[command])
    assert effects.blobs == {LARGE.digest}
    assert not works(effects.agents_now["a"])
    orders = shard.tick(blobs=((LARGE.digest, is_there),)).agents_now["a"]
    assert bool(works(orders)) is not is_there
    assert root(shard, 1).cached is is_there
    # The answer counts for a while, so the next call asks nobody.
    effects = shard.tick(commands=[SubmitRun(b"2" * 16, run_id(2), TaskRef("t"), cache_key=b"k")])
    assert effects.blobs == set()
    assert bool(works(effects.agents_now["a"])) is not is_there


def test_who_waited_for_a_result_takes_it_without_a_look(shard: Shard) -> None:
    (first,) = ask(shard, 0)
    assert not ask(shard, 1)
    effects = shard.tick(done(first, LARGE))
    assert effects.blobs == set()
    assert root(shard, 1).output == LARGE
