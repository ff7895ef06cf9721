"""`check_state` finds what a broken fold would leave behind."""

from collections.abc import Callable

import pytest
from log_builder import CACHED, HEAD, RUN, TAIL, LogBuilder, asked, created, sent, step, won

from millstream_events.check import FINDINGS_MAX, check_run, check_state
from millstream_events.fold import fold_entry
from millstream_events.phases import State
from millstream_events.state import CacheEntry, RunState, ShardState, collapse


def open_shard() -> ShardState:
    log = LogBuilder().runs([created(name="n"), sent(0)], [asked(1, **CACHED), step(2), sent(1)])
    log.runs([won(1), asked(3)])
    return folded(log)


def folded(log: LogBuilder) -> ShardState:
    shard = ShardState("lo00")
    for entry in log.entries:
        fold_entry(shard, entry)
    return shard


def setter(**fields: object) -> Callable[[ShardState], None]:
    def change(shard: ShardState) -> None:
        for name, value in fields.items():
            setattr(shard.runs[RUN], name, value)

    return change


def action_setter(ordinal: int, **fields: object) -> Callable[[ShardState], None]:
    def change(shard: ShardState) -> None:
        for name, value in fields.items():
            setattr(shard.runs[RUN].actions[ordinal], name, value)

    return change


#: What a finding says -> the damage.
DAMAGE = {
    "open_actions is 9": setter(open_actions=9),
    "live_actions is 9": setter(live_actions=9),
    "succeeded is 9": setter(succeeded=9),
    "failed is 9": setter(failed=9),
    "aborted is 9": setter(aborted=9),
    "is over as 'LOST'": setter(phase="LOST"),
    "is over with 2 open": setter(phase="SUCCEEDED"),
    "0 ids for 4 actions": setter(ordinals={}),
    "the id of a1 leads to": action_setter(1, id=b"other"),
    "is kept as run": setter(id="other"),
    "a0 is not the root": action_setter(0, id=b"other"),
    "a0 lists other children": action_setter(0, children=[1, 2]),
    "a0 counts 9 open children": action_setter(0, open_children=9),
    "a2 has the parent a3": action_setter(2, parent=3),
    "is DISPATCHED without a token": action_setter(0, token=b""),
    "is READY with a token": action_setter(3, token=b"token"),
    "is parked without a token": action_setter(3, parked=True),
    "is SUCCEEDED with ended_rev 0": action_setter(1, ended_rev=0),
    "is READY with ended_rev 1": action_setter(3, ended_rev=1),
    "changed at 0": action_setter(3, last_rev=0),
    "changed at 99": action_setter(3, last_rev=99),
    "waits, but is a task": action_setter(3, state=State.WAITING),
    "counts attempts": action_setter(3, attempt=0),
    "waits for a retry that is never due": action_setter(3, state=State.BACKOFF),
    "did not compute the cache entry": action_setter(1, cache_key=b"other"),
    "refers to a9": lambda shard: shard.cache.update(k=CacheEntry(RUN, 9, None, 0)),
    "without a key or a run": lambda shard: shard.cache.update({b"": CacheEntry("", 0, None, 0)}),
    "is not there, but": lambda shard: shard.names.update(alias="nobody"),
    "are not a sorted set": lambda shard: setattr(shard, "features", ["b", "a"]),
    "rev is negative": lambda shard: setattr(shard, "rev", -1),
}


def test_a_sound_state_has_no_findings() -> None:
    assert check_state(open_shard()) == []
    assert check_state(ShardState("lo00")) == []


@pytest.mark.parametrize("finding", DAMAGE)
def test_damage_to_the_state_is_found(finding: str) -> None:
    shard = open_shard()
    DAMAGE[finding](shard)
    assert any(finding in found for found in check_state(shard)), check_state(shard)


def test_a_collapsed_run_has_no_findings_unless_it_counts_what_is_gone() -> None:
    shard = folded(LogBuilder().runs(HEAD, TAIL))
    run = shard.runs[RUN]
    collapse(run)
    assert check_run(run) == []
    run.open_actions = 1
    assert check_run(run)


def test_findings_are_bounded() -> None:
    shard = ShardState("lo00")
    for number in range(FINDINGS_MAX + 5):
        shard.runs[f"run-{number}"] = RunState("other")
    assert len(check_state(shard)) == FINDINGS_MAX
