"""Decisions about cached successes, on the real core."""

from sim_shard import RUN, Shard, works

from millstream_events.commands import SubmitRun
from millstream_events.reports import Started, Succeeded, Work
from millstream_events.values import Inline, TaskRef

ONE = Inline("msgpack", b"\x01")


def done(work: Work) -> Succeeded:
    return Succeeded(work.run, work.action, work.token, ONE, "w", 1, 2)


def test_a_cached_success_is_taken_over_without_a_dispatch() -> None:
    shard = Shard()
    shard.join()
    first = SubmitRun(b"1" * 16, RUN, TaskRef("t"), cache_key=b"k")
    (work,) = works(shard.tick(commands=[first]).agents_now["a"])
    shard.tick(done(work))
    other = RUN[:-1] + "z"
    effects = shard.tick(commands=[SubmitRun(b"2" * 16, other, TaskRef("t"), cache_key=b"k")])
    assert not works(effects.agents_now["a"])
    assert shard.book.state.runs[other].output == ONE
    assert shard.book.state.runs[other].actions[0].source_run == RUN


def test_two_runs_that_store_one_key_in_one_tick_replay_in_the_order_of_their_successes() -> None:
    shard = Shard()
    shard.join()
    other = RUN[:-1] + "z"
    asked = [
        SubmitRun(bytes([n]) * 16, run, TaskRef("t"), cache_key=b"k")
        for n, run in enumerate((RUN, other))
    ]
    first, second = works(shard.tick(commands=asked).agents_now["a"])
    # The first run is touched first, and its success comes last.
    shard.tick(
        Started(first.run, 0, first.token, "w", 1, 1),
        Succeeded(second.run, 0, second.token, Inline("x", b"2"), "w", 1, 2),
        Succeeded(first.run, 0, first.token, Inline("x", b"1"), "w", 1, 2),
    )
    assert shard.book.state.cache[b"k"].output == Inline("x", b"1")


def test_an_overwriting_cache_mode_runs_and_stores() -> None:
    shard = Shard()
    shard.join()
    command = SubmitRun(b"1" * 16, RUN, TaskRef("t"), cache_key=b"k", cache_mode=1)
    shard.book.state.cache.clear()
    (work,) = works(shard.tick(commands=[command]).agents_now["a"])
    shard.tick(done(work))
    other = RUN[:-1] + "z"
    again = SubmitRun(b"2" * 16, other, TaskRef("t"), cache_key=b"k", cache_mode=1)
    assert works(shard.tick(commands=[again]).agents_now["a"])
