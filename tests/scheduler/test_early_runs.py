"""Runs that their client has sent to an agent as well: what began there is recorded there."""

from collections.abc import Sequence

import msgspec
import pytest
from sim_shard import RUN, Shard, works

from millstream_events.commands import (
    AbortRun,
    ConfigureQueue,
    PauseRun,
    ResumeRun,
    RunReleased,
    SubmitRun,
    WatchRun,
)
from millstream_events.early import EARLY_RUNS, RunBegun, RunDeclined
from millstream_events.ids import new_run_id
from millstream_events.phases import State
from millstream_events.queues import QueueSettings
from millstream_events.reports import (
    APP_SETTING,
    BeginNothing,
    Credit,
    Forget,
    Held,
    Hello,
    Repeat,
    Succeeded,
    Work,
)
from millstream_events.values import Inline, Origin, Policy, TaskRef
from millstream_scheduler.book import EXPECTED_MS
from millstream_scheduler.effects import Effects

ONE = Inline("msgpack", b"\x01")
HOST = "lo.default.a"
TOKEN = b"begun-77"
BEGUN = RunBegun(RUN, TOKEN, 1)
PLAIN = SubmitRun(b"c" * 16, RUN, TaskRef("env.main"))
#: What the agent says to a new leader after that.
HOLDING = Hello(2, "default", "lo", "", (), 8, 8, (Held(RUN, 0, 1, TOKEN, eager=True),))
OTHER = new_run_id(now_ms=1_700_000_000_000, random_bits=8)


class Sent(Shard):
    """With what was dispatched when the run was submitted."""

    given: Sequence[Work] = ()


def joined() -> Sent:
    shard = Sent()
    shard.join()
    return shard


def submitted(**fields: object) -> Sent:
    """Return a shard that has heard of the run, which its client has sent to agent `a` as well."""
    shard = joined()
    command = msgspec.structs.replace(PLAIN, **fields)
    effects = shard.tick(commands=[command, WatchRun(b"w" * 16, RUN)], host=HOST)
    shard.given = works([*effects.agents_now["a"], *effects.agents_durable["a"]])
    return shard


def forgotten(effects: Effects) -> bool:
    return Forget(TOKEN) in effects.agents_now["a"]


def done(token: bytes = TOKEN) -> Succeeded:
    return Succeeded(RUN, 0, token, ONE, "w", 1, 2)


def test_a_run_that_its_agent_has_begun_is_recorded_there_and_dispatched_by_nobody() -> None:
    shard = submitted()
    assert shard.given == []
    effects = shard.tick(BEGUN, done())
    assert not works(effects.agents_now["a"])
    (released,) = effects.clients_durable["me.1"]
    assert isinstance(released, RunReleased)
    assert (released.phase, released.output) == ("SUCCEEDED", ONE)
    root = shard.run.actions[0]
    assert (root.agent, root.attempt, root.state) == ("a", 1, State.SUCCEEDED)


def test_what_began_takes_the_credit_that_its_agent_has_spent_on_it() -> None:
    shard = submitted()
    before = shard.book.seats["a"].credit
    shard.tick(BEGUN)
    assert shard.book.seats["a"].credit == before - 1


def test_a_run_that_its_agent_declines_is_dispatched_at_once() -> None:
    shard = submitted()
    (work,) = works(shard.tick(RunDeclined(RUN), numbered=0).agents_now["a"])
    assert (work.run, work.action) == (RUN, 0)


def test_a_run_of_which_its_agent_says_nothing_is_dispatched_after_a_while() -> None:
    shard = submitted()
    shard.now_ms += EXPECTED_MS - 1
    assert not works(shard.tick().agents_now["a"])
    assert shard.book.next_ms() == shard.now_ms + 1
    shard.now_ms += 1
    (work,) = works(shard.tick().agents_now["a"])
    assert work.run == RUN


def test_what_began_and_is_told_too_late_is_ended_once_it_runs_elsewhere() -> None:
    shard = submitted()
    shard.now_ms += EXPECTED_MS
    (work,) = works(shard.tick().agents_now["a"])
    assert forgotten(shard.tick(BEGUN, done()))
    assert shard.run.actions[0].token == work.token
    shard.tick(done(work.token))
    assert shard.run.phase == "SUCCEEDED"


def test_word_and_run_may_come_in_one_tick() -> None:
    shard = joined()
    effects = shard.tick(BEGUN, done(), commands=[PLAIN, WatchRun(b"w" * 16, RUN)], host=HOST)
    assert not forgotten(effects)
    assert shard.run.phase == "SUCCEEDED"


def test_an_agents_word_that_comes_before_the_run_is_taken_when_that_is_there() -> None:
    shard = joined()
    number = shard.number
    effects = shard.tick(BEGUN, done())
    assert not effects.agents_now["a"]
    assert shard.book.seats["a"].next_number == number
    # The client repeats what it has asked for, to the leader alone.
    effects = shard.tick(commands=[PLAIN, WatchRun(b"w" * 16, RUN)])
    assert effects.agents_now["a"] == [Repeat(number)]
    assert not forgotten(shard.tick(BEGUN, done(), first=number))
    assert shard.run.phase == "SUCCEEDED"


def test_what_an_agent_reports_behind_that_waits_with_it_and_its_heartbeat_does_not() -> None:
    shard = joined()
    number = shard.number
    shard.tick(BEGUN, Credit(1, 99), numbered=1)
    assert shard.book.seats["a"].granted == 99
    shard.tick(done())
    assert shard.book.seats["a"].next_number == number


def test_what_began_of_a_run_that_nobody_asks_for_is_ended_after_a_while() -> None:
    shard = joined()
    number = shard.number
    shard.tick(BEGUN)
    shard.now_ms += EXPECTED_MS
    assert shard.tick().agents_now["a"] == [Repeat(number)]
    assert forgotten(shard.tick(BEGUN, first=number))
    assert shard.book.seats["a"].next_number == number + 1
    shard.now_ms += EXPECTED_MS
    shard.tick()
    assert not shard.book.unheard_of.waiting
    assert not shard.book.not_coming.waiting


def test_what_began_of_a_run_that_is_refused_is_ended_at_once() -> None:
    shard = joined()
    draining = QueueSettings(draining=True)
    shard.book.queues.settings = {"": draining}
    shard.tick(commands=[PLAIN], host=HOST)
    assert RUN not in shard.book.state.runs
    assert forgotten(shard.tick(BEGUN))


def test_a_new_leader_that_hears_of_a_run_from_its_agent_first_runs_it_once() -> None:
    shard = joined()
    shard.take_over()
    number = shard.number
    shard.tick(BEGUN, done(), Hello(2, "default", "lo", "", (), 8, 8), numbered=2)
    assert shard.book.seats["a"].next_number == number
    effects = shard.tick(commands=[PLAIN])
    assert effects.agents_now["a"] == [Repeat(number)]
    shard.tick(BEGUN, done(), first=number)
    assert shard.run.phase == "SUCCEEDED"


def test_a_run_that_is_aborted_meanwhile_is_ended_where_it_began() -> None:
    shard = submitted()
    shard.tick(commands=[AbortRun(b"a" * 16, RUN)])
    assert shard.run.finished
    assert forgotten(shard.tick(BEGUN))
    assert RUN not in shard.book.expected


def test_a_run_that_is_paused_meanwhile_goes_on_where_it_began_and_begins_nothing_more() -> None:
    shard = submitted()
    shard.tick(commands=[PauseRun(b"p" * 16, RUN)])
    effects = shard.tick(BEGUN)
    assert effects.agents_now["a"] == [BeginNothing(RUN)]
    assert shard.run.actions[0].token == TOKEN


def test_a_run_that_is_paused_and_resumed_still_waits_for_its_agents_word() -> None:
    shard = submitted()
    shard.tick(commands=[PauseRun(b"p" * 16, RUN)])
    effects = shard.tick(commands=[ResumeRun(b"r" * 16, RUN)])
    assert not works(effects.agents_now["a"])
    assert not forgotten(shard.tick(BEGUN))
    assert shard.run.actions[0].token == TOKEN


def test_while_its_agents_word_is_waited_for_other_settings_of_queues_change_nothing() -> None:
    shard = submitted()
    queue = ConfigureQueue(b"q" * 16, "other", QueueSettings(), create=True)
    assert not works(shard.tick(commands=[queue]).agents_now["a"])
    assert not forgotten(shard.tick(BEGUN))


def test_a_new_leader_takes_over_what_began_before_it() -> None:
    shard = submitted()
    shard.take_over()
    effects = shard.tick(BEGUN, HOLDING, numbered=1)
    assert not forgotten(effects)
    assert shard.run.actions[0].token == TOKEN


def test_what_a_former_leader_has_recorded_is_not_recorded_again() -> None:
    shard = submitted()
    number = shard.number
    shard.tick(BEGUN)
    shard.take_over()
    shard.tick(BEGUN, HOLDING, first=number, numbered=0)
    dispatched = [event for event in shard.events if type(event).__name__ == "AttemptDispatched"]
    assert dispatched == []


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "alias"},
        {"cache_key": b"k"},
        {"settings": (("cache", "disable"),)},
        {"policy": Policy(queue="other")},
        {"policy": Policy(idempotent=False)},
        {"policy": Policy(actions_max=3)},
        {"origin": Origin(OTHER, "rerun")},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_may_not_begin_unasked_is_dispatched_though_an_agent_has_got_it(
    fields: dict[str, object],
) -> None:
    shard = submitted(**fields)
    (work,) = shard.given
    assert work.run == RUN


# ------------------------------------------------------------------ where the next one begins


def host_after(shard: Shard, **fields: object) -> str:
    """Run once; return where the client is told that another run would begin."""
    command = msgspec.structs.replace(PLAIN, **fields)
    effects = shard.tick(commands=[command, WatchRun(b"w" * 16, RUN)])
    (work,) = works(effects.agents_now["a"])
    *_, released = shard.tick(done(work.token)).clients_durable["me.1"]
    assert isinstance(released, RunReleased)
    return released.agent


def test_a_client_is_told_with_a_release_where_another_run_would_begin() -> None:
    assert host_after(joined()) == HOST


def test_no_place_is_named_while_other_work_waits() -> None:
    shard = Shard()
    shard.join(credit=1)
    other = msgspec.structs.replace(PLAIN, command=b"d" * 16, run=OTHER)
    effects = shard.tick(commands=[PLAIN, WatchRun(b"w" * 16, RUN), other])
    (work,) = works(effects.agents_now["a"])
    (released,) = shard.tick(done(work.token)).clients_durable["me.1"]
    assert isinstance(released, RunReleased)
    assert released.agent == ""


def test_no_place_is_named_while_an_app_is_up_of_which_an_agent_knows_nothing() -> None:
    shard = joined()
    app = msgspec.structs.replace(
        PLAIN, command=b"e" * 16, run=OTHER, settings=((APP_SETTING, "shop"),)
    )
    shard.tick(commands=[app])
    assert host_after(shard) == ""


def test_no_place_is_named_on_a_node_that_may_vanish() -> None:
    shard = Shard()
    labels = (("interruptible", "true"),)
    hello = Hello(1, "default", "lo", "", labels, 8, 8, features=(EARLY_RUNS,))
    shard.tick(hello, first=1, numbered=0)
    assert host_after(shard) == ""


def test_no_place_is_named_where_the_agent_is_of_a_version_that_takes_no_runs() -> None:
    shard = Shard()
    shard.tick(Hello(1, "default", "lo", "", (), 8, 8), first=1, numbered=0)
    assert host_after(shard) == ""
