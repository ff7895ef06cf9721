"""An abort of thousands is one tick in several steps."""

import pytest
from sim_shard import MS, RUN, SHARD, Shard, works

from millstream_events.audit import audit
from millstream_events.commands import AbortRun, ClientBatch
from millstream_events.fold import fold_entry
from millstream_events.model import ActionFinished, RunFinished
from millstream_events.phases import State
from millstream_events.reports import Cancel, Credit, Failed, StartAction, Work
from millstream_events.state import ShardState, state_hash
from millstream_events.values import ErrorRecord, TaskRef
from millstream_scheduler.decide import Inputs, decide, go_on
from millstream_scheduler.outcomes import ENDED_MAX

WAITING = 2 * ENDED_MAX + 100
TASK = TaskRef("env.f", identity=b"f")
ABORT = AbortRun(bytes(16), RUN, "enough", "somebody")


def crowded() -> tuple[Shard, Work]:
    """Return a shard whose run has one child with an agent, and thousands that wait."""
    shard = Shard()
    shard.replays = False  # Once, at the end, will do.
    shard.join(credit=2)
    (root,) = works(shard.submit().agents_now["a"])
    numbers = [number.to_bytes(10, "big") for number in range(1, WAITING + 2)]
    calls = [StartAction(RUN, 0, root.token, id_, "task", TASK, None, id_) for id_ in numbers]
    shard.tick(*calls)
    return shard, root


def stepwise(shard: Shard, inputs: Inputs) -> list[int]:
    """Let the leader decide one tick, and return how many actions each step has ended."""
    ended: list[int] = []
    turn, more = decide(shard.book, inputs)
    while True:
        ended.append(sum(isinstance(event, ActionFinished) for event in turn.recorded))
        shard.write(turn)
        if not shard.book.endings:
            return ended
        assert more
        turn, more = go_on(shard.book, monotonic_ns=shard.now_ms * MS + 1)


def abort_of(shard: Shard) -> Inputs:
    now_ns = shard.now_ms * MS
    return Inputs(now_ns, now_ns, commands=[ClientBatch("me.1", (ABORT,))])


def test_whoever_runs_is_told_at_once_and_no_step_ends_more_than_its_bound() -> None:
    shard, root = crowded()
    turn, more = decide(shard.book, abort_of(shard))
    told = [order for order in turn.effects.agents_now["a"] if isinstance(order, Cancel)]
    assert root.token in {order.token for order in told}
    assert len(told) == 2
    assert more
    shard, _ = crowded()
    ended = stepwise(shard, abort_of(shard))
    assert (sum(ended), max(ended), len(ended)) == (WAITING, ENDED_MAX, 3)


def test_to_the_auditor_and_to_a_reader_all_steps_are_one_tick() -> None:
    shard, _ = crowded()
    stepwise(shard, abort_of(shard))
    assert not audit(shard.log, quiescent=False).violations
    state = ShardState(SHARD)
    for entry in shard.log:
        fold_entry(state, entry)
    assert state_hash(state) == state_hash(shard.book.state)


def test_nothing_that_waited_is_left_in_the_queue_or_begins() -> None:
    shard, root = crowded()
    stepwise(shard, abort_of(shard))
    effects = shard.tick(Credit(1, 10), numbered=0)
    assert works(effects.agents_now["a"]) == []
    live = [action for action in shard.run.actions if not action.terminal]
    assert {action.state for action in live} == {State.ABORTING}
    error = ErrorRecord("cancelled", "CancelledError", "")
    tokens = {n: action.token for n, action in enumerate(shard.run.actions) if action.token}
    shard.tick(*(Failed(RUN, n, token, error, "w", 1, 2) for n, token in tokens.items()))
    assert any(isinstance(event, RunFinished) for event in shard.events)
    assert shard.book.ready_count == 0
    assert shard.run.aborted == WAITING + 2
    assert root.run == RUN


def test_a_parent_that_fails_takes_thousands_with_it_in_steps_too() -> None:
    shard, root = crowded()
    error = ErrorRecord("user", "ValueError", "no", retryable=False)
    shard.tick(Failed(RUN, 0, root.token, error, "w", 1, 2))
    assert not shard.book.endings
    assert shard.run.phase == "FAILED"
    assert not audit(shard.log, quiescent=True).violations
    assert shard.book.ready_count == 0


@pytest.mark.parametrize("steps", [1, 2])
def test_a_new_leader_ends_what_the_former_one_had_not_ended_yet(steps: int) -> None:
    shard, _ = crowded()
    turn, _ = decide(shard.book, abort_of(shard))
    for _ in range(steps):
        shard.write(turn)
        turn, _ = go_on(shard.book, monotonic_ns=shard.now_ms * MS)
    shard.take_over()
    assert {action.state for action in shard.run.actions if not action.terminal} == {State.ABORTING}
    assert not audit(shard.log, quiescent=False).violations
