"""While runs are very short, a watched submission is answered by its release alone."""

from sim_shard import Shard, works

from millstream_events.commands import Accepted, RunReleased, SubmitRun, WatchRun
from millstream_events.ids import new_run_id
from millstream_events.reports import Succeeded, Work
from millstream_events.values import TaskRef
from millstream_scheduler.late_answers import LATE_MS

#: So many short runs bring the average of a new leader below the bound.
SHORT_RUNS = 20


def run_id(number: int) -> str:
    return new_run_id(now_ms=1_700_000_000_000 + number, random_bits=number)


def submit(shard: Shard, number: int, *, watched: bool = True) -> tuple[list[object], Work]:
    """Ask for a run; return what the client is told, and the root's dispatch."""
    run = run_id(number)
    asked = [SubmitRun(bytes([number]) * 16, run, TaskRef("e.t")), WatchRun(b"w" * 16, run)]
    effects = shard.tick(commands=asked if watched else asked[:1])
    (work,) = works(effects.agents_now["a"])
    return list(effects.clients_durable["me.1"]), work


def end(shard: Shard, work: Work) -> list[object]:
    done = Succeeded(work.run, work.action, work.token, None, "w", 1, 2)
    return list(shard.tick(done).clients_durable["me.1"])


def after_short_runs() -> Shard:
    shard = Shard()
    shard.join(credit=1_000)
    for number in range(1, SHORT_RUNS + 1):
        _, work = submit(shard, number)
        end(shard, work)
    return shard


def kinds(replies: list[object]) -> list[type]:
    return [type(reply) for reply in replies]


def test_a_leader_that_knows_nothing_of_runs_answers_at_once():
    shard = Shard()
    shard.join()
    told, _ = submit(shard, 1)
    assert kinds(told) == [Accepted]


def test_after_short_runs_the_release_is_the_only_word():
    shard = after_short_runs()
    told, work = submit(shard, 99)
    assert told == []
    assert kinds(end(shard, work)) == [RunReleased]
    shard.now_ms += 10 * LATE_MS
    assert kinds(list(shard.tick().clients_durable["me.1"])) == []


def test_a_run_that_takes_longer_after_all_is_answered_in_time_and_once():
    shard = after_short_runs()
    _, work = submit(shard, 99)
    shard.now_ms += LATE_MS
    (answer,) = shard.tick().clients_durable["me.1"]
    assert isinstance(answer, Accepted)
    assert answer.run == run_id(99)
    shard.now_ms += LATE_MS
    assert not shard.tick().clients_durable["me.1"]
    assert kinds(end(shard, work)) == [RunReleased]


def test_a_submission_that_nobody_watches_is_answered_at_once():
    told, _ = submit(after_short_runs(), 99, watched=False)
    assert kinds(told) == [Accepted]


def test_one_long_run_ends_the_waiting_for_the_next_ones():
    shard = after_short_runs()
    _, work = submit(shard, 98)
    shard.now_ms += 1_000
    end(shard, work)
    told, _ = submit(shard, 99)
    assert kinds(told) == [Accepted]


def test_a_submission_that_is_repeated_meanwhile_is_answered_then():
    shard = after_short_runs()
    submit(shard, 99)
    again = SubmitRun(bytes([99]) * 16, run_id(99), TaskRef("e.t"))
    (answer,) = shard.tick(commands=[again]).clients_durable["me.1"]
    assert isinstance(answer, Accepted)
