"""Calls whose child has begun on its parent's agent: what has begun is not begun a second time."""

from collections.abc import Iterator

import msgspec
import pytest
from sim_shard import RUN, Shard, works

from millstream_events.commands import PauseRun
from millstream_events.phases import State
from millstream_events.reports import (
    BeginNothing,
    Forget,
    Held,
    Hello,
    StartAction,
    Succeeded,
    Work,
)
from millstream_events.state import ActionState
from millstream_events.values import Inline, Policy, TaskRef

ONE = Inline("msgpack", b"\x01")
TOKEN = b"begun-77"


def root_of(shard: Shard, policy: Policy | None = None) -> Work:
    shard.join()
    (work,) = works(shard.submit(policy).agents_now["a"])
    return work


def call(parent: Work, name: bytes = b"c", policy: Policy | None = None) -> StartAction:
    return StartAction(
        RUN, parent.action, parent.token, name.ljust(10, b"-"), "task", TaskRef("env.child"),
        None, b"h", policy=policy,
    )  # fmt: skip


def begun(parent: Work) -> StartAction:
    return msgspec.structs.replace(call(parent), eager=TOKEN, generation=1)


def assert_runs_there(shard: Shard, ordinal: int) -> None:
    """Assert that the child was dispatched as it had begun, and its end is taken."""
    assert shard.run.actions[ordinal].token == TOKEN
    shard.tick(Succeeded(RUN, -1, TOKEN, ONE, "w", 1, 2))
    assert shard.run.actions[ordinal].state == State.SUCCEEDED


def test_a_child_that_has_begun_goes_on_though_its_run_is_paused() -> None:
    shard = Shard()
    root = root_of(shard)
    paused = shard.tick(commands=[PauseRun(b"p" * 16, RUN)])
    assert paused.agents_now["a"] == [BeginNothing(RUN)]
    effects = shard.tick(begun(root))
    assert Forget(TOKEN) not in effects.agents_now["a"]
    assert_runs_there(shard, 1)
    # What has not begun waits.
    assert not works(shard.tick(call(root, b"d")).agents_now["a"])


def test_an_agent_that_introduces_itself_hears_of_the_paused_runs_that_it_works_for() -> None:
    shard = Shard()
    root = root_of(shard)
    shard.tick(commands=[PauseRun(b"p" * 16, RUN)])
    hello = Hello(2, "default", "lo", "", (), 8, 8, holding=(Held(RUN, 0, 1, root.token),))
    assert BeginNothing(RUN) in shard.tick(hello, numbered=0).agents_now["a"]


def test_a_child_that_has_begun_goes_on_though_a_limit_of_the_scheduler_is_reached() -> None:
    shard = Shard(parent_in_flight_max=1)
    root = root_of(shard)
    (other,) = works(shard.tick(call(root, b"other")).agents_now["a"])
    effects = shard.tick(begun(root))
    assert Forget(TOKEN) not in effects.agents_now["a"]
    assert_runs_there(shard, 2)
    # It counts: the limit holds for the next one.
    assert not works(shard.tick(call(root, b"d")).agents_now["a"])
    shard.tick(Succeeded(RUN, other.action, other.token, ONE, "w", 1, 2))
    assert shard.run.actions[3].state == State.DISPATCHED


def test_a_child_whose_parent_is_over_is_ended() -> None:
    shard = Shard()
    root = root_of(shard)
    shard.tick(Succeeded(RUN, 0, root.token, ONE, "w", 1, 2))
    assert Forget(TOKEN) in shard.tick(begun(root)).agents_now["a"]


@pytest.mark.parametrize("policy", [Policy(children_max=3), Policy(actions_max=3)])
def test_under_a_limit_of_its_user_no_child_of_a_run_begins_before_the_leader_says_so(
    policy: Policy,
) -> None:
    shard = Shard()
    root = root_of(shard, policy)
    assert root.limited
    (child,) = works(shard.tick(call(root)).agents_now["a"])
    assert child.limited == (policy.actions_max > 0)


def test_without_a_limit_children_may_begin_early() -> None:
    shard = Shard()
    root = root_of(shard)
    (child,) = works(shard.tick(call(root)).agents_now["a"])
    assert not root.limited
    assert not child.limited


class Watched(list[ActionState]):
    """Actions that count how often somebody has gone through all of them."""

    looks = 0

    def __iter__(self) -> Iterator[ActionState]:
        self.looks += 1
        return super().__iter__()


def test_late_words_of_many_attempts_cost_one_look_at_a_large_run() -> None:
    shard = Shard()
    root = root_of(shard)
    shard.tick(*(call(root, b"%d" % number) for number in range(2_000)))
    shard.replays = False
    late = [Succeeded(RUN, -1, b"gone-%d" % number, ONE, "w", 1, 2) for number in range(200)]
    shard.run.actions = watched = Watched(shard.run.actions)
    shard.tick(*late)
    assert watched.looks == 1
