"""Races between an abort, a limit or a retry and a success: the log decides, once."""

import random
from collections import Counter

import pytest
from sim_shard import RUN, Shard, works

from millstream_events.audit import audit
from millstream_events.commands import AbortRun
from millstream_events.phases import Phase
from millstream_events.reports import Failed, Started, Succeeded
from millstream_events.values import ErrorRecord, Inline, Policy

TRIALS = 1_000
ONE = Inline("msgpack", b"\x01")
CANCELLED = ErrorRecord("cancelled", "CancelledError", "")


def race(seed: int, against: str) -> tuple[str, Shard]:
    """Let a success race `against`; return the winner's name."""
    rng = random.Random(seed)
    shard = Shard()
    shard.replays = False
    shard.join()
    policy = Policy(retries=1, runtime_max_ms=100 if against == "timeout" else 0, grace_ms=10)
    (work,) = works(shard.submit(policy).agents_now["a"])
    success = Succeeded(RUN, 0, work.token, ONE, "w", 1, 2)
    if against == "timeout":
        shard.tick(Started(RUN, 0, work.token, "w", 1, 1))
    first = rng.random() < 0.5
    together = rng.random() < 0.3
    abort = [AbortRun(b"x" * 16, RUN)] if against == "abort" else []
    if against == "timeout":
        shard.now_ms += rng.choice([99, 100]) if not together else 100
    if against == "retry" and not first:
        shard.tick(Failed(RUN, 0, work.token, ErrorRecord("user", "E", "lost it")))
    if together:
        shard.tick(success, commands=abort)
    elif first:
        shard.tick(success)
        shard.tick(commands=abort)
    else:
        shard.tick(commands=abort)
        shard.now_ms += 1
        shard.tick()
        shard.tick(success)
    for _ in range(3):
        shard.now_ms += 6_000
        effects = shard.tick(look_round=False)
        for again in works(effects.agents_now["a"]):
            shard.tick(Succeeded(RUN, 0, again.token, Inline("msgpack", b"\x02"), "w", 1, 2))
    if against == "abort":
        winner = shard.run.phase
    else:
        winner = "late" if shard.run.output != ONE else "success"
    if not shard.run.finished:
        live = shard.run.actions[0]
        shard.tick(Succeeded(RUN, 0, live.token, Inline("msgpack", b"\x02"), "w", 1, 2))
        winner = "late"
    assert shard.run.finished, shard.run
    return winner, shard


@pytest.mark.parametrize("against", ["abort", "timeout", "retry"])
def test_of_a_thousand_races_each_has_one_winner_both_win_some_and_the_audit_is_clean(
    against: str,
) -> None:
    winners: Counter[str] = Counter()
    for seed in range(TRIALS):
        winner, shard = race(seed, against)
        winners[winner] += 1
        report = audit(shard.log, quiescent=True)
        assert not report.violations, (seed, report.violations)
        terminal = [phase for phase in (shard.run.phase,) if phase]
        assert len(terminal) == 1
    assert len(winners) == 2, winners
    assert min(winners.values()) >= TRIALS // 20, winners
    if against == "abort":
        assert set(winners) == {Phase.SUCCEEDED, Phase.ABORTED}
