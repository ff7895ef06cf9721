"""What one child costs the leader's core, in calls: the gate against regressions of speed."""

import tomllib
from pathlib import Path

from call_count import calls_of
from sim_world import MS, SHARD

from millstream_events.commands import ClientBatch, SubmitRun
from millstream_events.endpoint import Endpoint
from millstream_events.fold import apply_shard
from millstream_events.ids import new_run_id
from millstream_events.model import LeaderElected
from millstream_events.reports import AgentBatch, Hello, Report, StartAction, Succeeded, Work
from millstream_events.state import ShardState
from millstream_events.values import TaskRef
from millstream_scheduler.book import Book, rebuild
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.decide import Inputs, decide
from millstream_scheduler.turn import Turn

LIMITS = tomllib.loads((Path(__file__).parent.parent / "limits.toml").read_text())
#: Fewer than may be in flight at once.
CHILDREN = 900
NOW_NS = 1_700_000_000_000 * MS
RUN = new_run_id(now_ms=NOW_NS // MS, random_bits=1)
TASK = TaskRef("t.f", identity=b"f")


class Core:
    """A leader's core, and one agent with credit for everything."""

    def __init__(self) -> None:
        state = ShardState(SHARD)
        state.epoch = 1
        apply_shard(state, LeaderElected(0, epoch=1, node="n"))
        config = SchedulerConfig(endpoint=Endpoint(url=""), node="n")
        self.book: Book = rebuild(state, config, bytes(32))
        self.number = 1
        self.report(Hello(1, "default", "lo", "", (), 2, 10 * CHILDREN))

    def tick(self, inputs: Inputs) -> Turn:
        """Decide one tick and seal its frames."""
        turn, _ = decide(self.book, inputs)
        turn.frames()
        return turn

    def report(self, *items: Report) -> list[Work]:
        """Let the agent say something, and return what it is given to run."""
        batch = AgentBatch("inc", self.number, items)
        self.number += sum(not isinstance(item, Hello) for item in items)
        turn = self.tick(Inputs(NOW_NS, NOW_NS, [("default", "a", batch)]))
        return [order for order in turn.effects.agents_now["a"] if isinstance(order, Work)]


def test_a_child_costs_the_core_no_more_calls_than_its_limit() -> None:
    core = Core()
    submit = SubmitRun(bytes(16), RUN, TASK)
    turn = core.tick(Inputs(NOW_NS, NOW_NS, (), [ClientBatch("me.1", (submit,))]))
    (root,) = (order for order in turn.effects.agents_now["a"] if isinstance(order, Work))
    starts = [
        StartAction(RUN, 0, root.token, n.to_bytes(10, "big"), "task", TASK, None, b"i")
        for n in range(1, CHILDREN + 1)
    ]
    given: list[Work] = []
    calls = calls_of(lambda: given.extend(core.report(*starts)))
    assert len(given) == CHILDREN
    ends = [Succeeded(RUN, each.action, each.token, None, "w", 1, 2) for each in given]
    calls += calls_of(lambda: core.report(*ends))
    assert core.book.state.runs[RUN].succeeded == CHILDREN
    cost = calls / CHILDREN
    assert cost <= LIMITS["core"]["python_calls"], cost
    print(f"{cost:.1f} calls for each child")
