"""Recovering runs: what is taken over, what is refused, and what a new leader knows of it."""

import msgspec
from sim_shard import MS, RUN, SHARD, Shard, works

import millstream_events.model as m
from millstream_events.commands import Accepted, ClientBatch, Rejected, SubmitRun
from millstream_events.ids import new_run_id
from millstream_events.memory import MemoryConnection
from millstream_events.phases import State
from millstream_events.ports import EventLog, LogEntry
from millstream_events.reports import (
    JOURNAL_BYTES_MAX,
    Forget,
    JournalEntry,
    RecordTrace,
    Release,
    StartAction,
    Succeeded,
    Work,
)
from millstream_events.state import RunState
from millstream_events.values import ErrorRecord, Inline, Origin, Policy, TaskRef
from millstream_scheduler.book import rebuild
from millstream_scheduler.decide import Inputs, decide
from millstream_scheduler.repair import repair
from millstream_scheduler.requests import journal
from millstream_scheduler.source_reader import READS_MAX, SourceReader, read_source, read_sources
from millstream_scheduler.sources import CHAIN_RUNS_MAX, NoSource, Source
from millstream_scheduler.turn import Turn

ONE = Inline("msgpack", b"\x01")
SOON = ErrorRecord("user", "ValueError", "not yet")
NEVER = ErrorRecord("user", "ValueError", "never", retryable=False)


def run_id(number: int) -> str:
    return new_run_id(now_ms=1_700_000_000_000 + number, random_bits=number)


def call(work: Work, id_: bytes) -> StartAction:
    return StartAction(
        work.run, work.action, work.token, id_, "task", TaskRef("env.leaf"), None, b"i"
    )


def step(work: Work, id_: bytes, error: ErrorRecord | None = None) -> RecordTrace:
    output = None if error is not None else ONE
    return RecordTrace(work.run, work.action, work.token, id_, "step", b"i", output, error, 1, 2)


def finished_source() -> Shard:
    """A run of a root that called `c1`, took the steps `s1` to `s3`, and ended."""
    shard = Shard()
    shard.join(credit=64)
    (root,) = works(shard.submit(Policy(retries=0)).agents_now["a"])
    (leaf,) = works(shard.tick(call(root, b"c1")).agents_now["a"])
    shard.tick(Succeeded(RUN, 1, leaf.token, ONE, "w", 1, 2))
    shard.tick(step(root, b"s1"), step(root, b"s2", SOON), step(root, b"s3", NEVER))
    shard.tick(Succeeded(RUN, 0, root.token, ONE, "w", 1, 2))
    assert shard.run.finished
    return shard


def source_of(shard: Shard) -> Source:
    source = Source(RUN)
    source.add(shard.replayed().runs[RUN])
    return source


def submit(shard: Shard, run: str, origin: Origin, sources: dict[str, Source | NoSource]) -> Turn:
    command = SubmitRun(run[-8:].encode() * 2, run, TaskRef("env.main"), origin=origin)
    turn, _ = decide(
        shard.book,
        Inputs(
            shard.now_ms * MS,
            shard.now_ms * MS,
            commands=[ClientBatch("me.1", (command,))],
            sources=sources,
            node="n#1",
        ),
    )
    for frame in turn.frames():
        shard.log.append(LogEntry(len(shard.log) + 1, frame.key, frame.payload))
    return turn


def test_a_call_that_succeeded_in_the_source_is_released_and_never_dispatched() -> None:
    shard = finished_source()
    turn = submit(shard, run_id(1), Origin(RUN, "recover"), {RUN: source_of(shard)})
    (root,) = works(turn.effects.agents_now["a"])
    assert [(entry.id, entry.phase) for entry in root.journal] == [
        (b"s1", "SUCCEEDED"),
        (b"s2", "FAILED"),
    ]
    effects = shard.tick(call(root, b"c1"))
    (release,) = [each for each in effects.agents_durable["a"] if isinstance(each, Release)]
    assert (release.phase, release.output) == ("RECOVERED", ONE)
    assert works(effects.agents_now["a"]) == []
    recovered = shard.book.state.runs[run_id(1)].actions[1]
    assert (recovered.source_run, recovered.source_action) == (RUN, 1)
    # A call that the source has not is made.
    assert works(shard.tick(call(root, b"c2")).agents_now["a"])


def test_an_agent_is_told_to_begin_nothing_by_itself_and_what_has_begun_is_ended() -> None:
    shard = finished_source()
    turn = submit(shard, run_id(1), Origin(RUN, "recover"), {RUN: source_of(shard)})
    (root,) = works(turn.effects.agents_now["a"])
    assert root.recovers
    begun = msgspec.structs.replace(call(root, b"c1"), eager=b"e" * 8, generation=1)
    effects = shard.tick(begun)
    assert Forget(b"e" * 8) in effects.agents_now["a"]
    assert shard.book.state.runs[run_id(1)].actions[1].state == State.RECOVERED


def test_a_plain_rerun_takes_nothing_over_while_another_run_recovers_the_same_source() -> None:
    shard = finished_source()
    submit(shard, run_id(1), Origin(RUN, "recover"), {RUN: source_of(shard)})
    turn = submit(shard, run_id(2), Origin(RUN, "rerun"), {})
    (root,) = works(turn.effects.agents_now["a"])
    assert root.journal == ()
    assert works(shard.tick(call(root, b"c1")).agents_now["a"])


def test_a_forced_call_or_step_is_not_taken_over() -> None:
    shard = finished_source()
    origin = Origin(RUN, "recover", (b"c1", b"s1"))
    turn = submit(shard, run_id(1), origin, {RUN: source_of(shard)})
    (root,) = works(turn.effects.agents_now["a"])
    assert [entry.id for entry in root.journal] == [b"s2"]
    assert works(shard.tick(call(root, b"c1")).agents_now["a"])


def test_a_source_is_kept_while_a_run_recovers_it_and_no_longer() -> None:
    shard = finished_source()
    turn = submit(shard, run_id(1), Origin(RUN, "fork"), {RUN: source_of(shard)})
    assert list(shard.book.sources) == [RUN]
    (root,) = works(turn.effects.agents_now["a"])
    shard.tick(Succeeded(run_id(1), 0, root.token, ONE, "w", 1, 2))
    assert (shard.book.sources, shard.book.source_users) == ({}, {})


def test_what_was_read_for_a_refused_submission_is_let_go_of() -> None:
    shard = finished_source()
    missing = NoSource("no-such-run", "gone")
    turn = submit(shard, run_id(1), Origin(run_id(9), "recover"), {run_id(9): missing})
    (refusal,) = turn.effects.clients_now["me.1"]
    assert isinstance(refusal, Rejected)
    assert (refusal.code, refusal.reason, refusal.retry_after_ms) == ("no-such-run", "gone", 0)
    turn = submit(shard, "no id", Origin(RUN, "recover"), {RUN: source_of(shard)})
    assert shard.book.sources == {}


def test_a_source_that_was_not_read_makes_the_client_ask_again() -> None:
    shard = finished_source()
    turn = submit(shard, run_id(1), Origin(RUN, "recover"), {})
    (refusal,) = turn.effects.clients_now["me.1"]
    assert isinstance(refusal, Rejected)
    assert (refusal.code, refusal.retry_after_ms > 0) == ("busy", True)
    # A rerun needs no source, an unknown mode is refused for good.
    turn = submit(shard, run_id(1), Origin(RUN, "rerun"), {})
    assert isinstance(turn.effects.clients_durable["me.1"][0], Accepted)
    turn = submit(shard, run_id(2), Origin(RUN, "borrow"), {})
    (refusal,) = turn.effects.clients_now["me.1"]
    assert isinstance(refusal, Rejected)
    assert (refusal.code, refusal.retry_after_ms) == ("invalid", 0)


def test_a_new_leader_takes_over_what_the_former_one_had_no_time_to() -> None:
    shard = finished_source()
    submit(shard, run_id(1), Origin(RUN, "recover"), {RUN: source_of(shard)})
    state = shard.replayed()
    run = state.runs[run_id(1)]
    # The frame with the request landed, the one with the recovery did not.
    turn = Turn(rebuild(state, shard.config, b"t" * 32), now_ns=1, monotonic_ns=1)
    turn.record(run, m.ActionRequested(1, id=b"c1", task=TaskRef("env.leaf")))
    book = rebuild(state, shard.config, b"u" * 32, {RUN: source_of(shard)})
    turn = Turn(book, now_ns=2, monotonic_ns=2)
    repair(turn)
    assert [type(event) for event in turn.recorded] == [m.ActionRecovered]
    turn = Turn(book, now_ns=3, monotonic_ns=3)
    repair(turn)
    assert turn.recorded == []


def test_a_long_journal_comes_in_pages_steps_first() -> None:
    big = Inline("x", bytes(JOURNAL_BYTES_MAX // 2))
    steps = tuple(JournalEntry(bytes([n]), n, "SUCCEEDED", big) for n in range(5))
    run = finished_source().replayed().runs[RUN]
    seen: list[bytes] = []
    start = 0
    while True:
        entries, start = journal(run, 0, start, steps)
        seen += [entry.id for entry in entries]
        if not start:
            break
    assert seen == [*(bytes([n]) for n in range(5)), b"c1", b"s1", b"s2", b"s3"]


def chained(first: Shard, length: int) -> list[RunState]:
    """Runs that recover each other, nearest first; the last one is `RUN`."""
    runs = [first.replayed().runs[RUN]]
    for number in range(1, length):
        run = RunState(run_id(number), origin=Origin(runs[0].id, "recover"), phase="FAILED")
        runs.insert(0, run)
    return runs


def test_a_chain_of_recoveries_is_looked_up_nearest_first_and_forced_ones_end_it() -> None:
    first = finished_source()
    runs = chained(first, 3)
    source = Source(runs[0].id)
    for run in runs:
        source.add(run)
    assert source.wanted == ""
    assert source.outcomes[b"c1"].run == RUN
    middle = runs[1]
    middle.origin = Origin(RUN, "recover", (b"c1", b"s1"))
    source = Source(runs[0].id)
    for run in runs:
        source.add(run)
    assert b"c1" not in source.outcomes
    assert [*source.steps.popitem()[1]] == [b"s2"]


async def stored(shard: Shard) -> EventLog:
    log = MemoryConnection().event_log(SHARD)
    for entry in shard.log:
        log.append(entry.key, entry.payload, entry.seq - 1, lambda _: None)
    return log


async def test_a_source_is_read_from_the_log_and_one_that_is_not_over_is_refused() -> None:
    shard = finished_source()
    shard.submit(Policy(), run_id(5))
    log = await stored(shard)
    source = await read_source(log, RUN)
    assert isinstance(source, Source)
    assert source.outcomes == source_of(shard).outcomes
    refused = await read_source(log, run_id(5))
    assert isinstance(refused, NoSource)
    assert (refused.code, "not over" in refused.reason) == ("invalid", True)
    assert (await read_source(log, run_id(6)))[0] == "no-such-run"  # type: ignore[index]


async def test_a_new_leader_reads_each_source_of_its_open_runs_once() -> None:
    shard = finished_source()
    for number in (1, 2):
        submit(shard, run_id(number), Origin(RUN, "recover"), {RUN: source_of(shard)})
    sources = await read_sources(await stored(shard), shard.replayed())
    assert list(sources) == [RUN]
    assert sources[RUN].outcomes == source_of(shard).outcomes


async def test_a_chain_that_is_too_long_is_refused() -> None:
    shard = finished_source()
    for number in range(1, CHAIN_RUNS_MAX + 1):
        before = RUN if number == 1 else run_id(number - 1)
        origin = Origin(before, "recover")
        turn = submit(shard, run_id(number), origin, {before: Source(before)})
        (root,) = works(turn.effects.agents_now["a"])
        shard.tick(Succeeded(run_id(number), 0, root.token, ONE, "w", 1, 2))
    log = await stored(shard)
    longest = await read_source(log, run_id(CHAIN_RUNS_MAX - 1))
    assert isinstance(longest, Source)
    assert b"c1" in longest.outcomes
    refused = await read_source(log, run_id(CHAIN_RUNS_MAX))
    assert isinstance(refused, NoSource)
    assert "more than" in refused.reason


async def test_only_so_many_sources_are_read_at_once() -> None:
    reader = SourceReader(MemoryConnection().event_log(SHARD), lambda *_: None)
    assert [reader.begin(run_id(n)) for n in range(READS_MAX + 1)] == [True] * READS_MAX + [False]
    assert reader.begin(run_id(0))
    reader.stop()
