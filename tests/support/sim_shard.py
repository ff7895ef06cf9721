"""A leader's core driven by hand: one shard, one agent, frames folded back at the end."""

from collections.abc import Sequence

from millstream_events.commands import ClientBatch, Command, SubmitRun
from millstream_events.early import EARLY_RUNS
from millstream_events.endpoint import Endpoint
from millstream_events.fold import apply_shard, fold_entry
from millstream_events.ids import new_run_id
from millstream_events.model import Event, LeaderElected
from millstream_events.ports import LogEntry
from millstream_events.reports import AgentBatch, Hello, Order, Report, Work
from millstream_events.seal import seal
from millstream_events.state import RunState, ShardState, state_hash
from millstream_events.values import Policy, TaskRef
from millstream_scheduler.book import rebuild
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.decide import Inputs, decide, go_on
from millstream_scheduler.effects import Effects
from millstream_scheduler.turn import Turn

SHARD = "lo00"
RUN = new_run_id(now_ms=1_700_000_000_000, random_bits=7)
MS = 1_000_000


class Shard:
    """Ticks of one leader, with time as an argument."""

    def __init__(self, **settings: int) -> None:
        self.config = SchedulerConfig(endpoint=Endpoint(url=""), node="n", **settings)
        self.log: list[LogEntry] = []
        self.now_ms = 1_700_000_000_000
        self.number = 1
        #: Compare live state and replay after each tick.
        self.replays = True
        state = ShardState(SHARD)
        self._elect(state)

    def _elect(self, state: ShardState) -> None:
        state.epoch += 1
        state.number = 0
        elected = LeaderElected(0, epoch=state.epoch, node="n")
        apply_shard(state, elected)
        for frame in seal(state, {}, [elected], now_ns=self.now_ms * MS):
            self.log.append(LogEntry(len(self.log) + 1, frame.key, frame.payload))
        self.book = rebuild(state, self.config, b"s" * 32)

    def take_over(self) -> None:
        """Replace the leader by a new one that knows the log alone."""
        self._elect(self.replayed())
        self.tick(took_over=True)

    def replayed(self) -> ShardState:
        """Return a fold of the whole log."""
        state = ShardState(SHARD)
        for entry in self.log:
            fold_entry(state, entry)
        return state

    def tick(
        self,
        *reports: Report,
        commands: Sequence[Command] = (),
        host: str = "",
        agent: str = "a",
        incarnation: str = "i1",
        first: int | None = None,
        look_round: bool = False,
        adoption_over: bool = False,
        took_over: bool = False,
        reconnected: bool = False,
        numbered: int | None = None,
        blobs: tuple[tuple[bytes, bool], ...] = (),
    ) -> Effects:
        """Run one tick; its frames are durable at once, and live state equals replay."""
        batches = []
        if reports:
            batches = [
                ("default", agent, AgentBatch(incarnation, first or self.number, tuple(reports)))
            ]
            self.number += len(reports) if numbered is None else numbered
        asked = [ClientBatch("me.1", tuple(commands), host)] if commands else []
        turn, _ = decide(
            self.book,
            Inputs(
                self.now_ms * MS,
                self.now_ms * MS,
                batches,
                asked,
                blobs=blobs,
                node="n#1",
                look_round=look_round,
                adoption_over=adoption_over,
                took_over=took_over,
                reconnected=reconnected,
            ),
        )
        self.write(turn)
        self.events: list[Event] = turn.recorded
        while self.book.endings:
            step, _ = go_on(self.book, monotonic_ns=self.now_ms * MS)
            self.write(step)
            self.events += step.recorded
        if self.replays:
            assert state_hash(self.book.state) == state_hash(self.replayed())
        return turn.effects

    def write(self, turn: Turn) -> None:
        """Make the frames of a turn durable."""
        for frame in turn.frames():
            self.log.append(LogEntry(len(self.log) + 1, frame.key, frame.payload))

    def join(self, agent: str = "a", *, credit: int = 8, pool: str = "default") -> Effects:
        """Let an agent introduce itself."""
        hello = Hello(1, pool, "lo", "", (), credit, credit, features=(EARLY_RUNS,))
        return self.tick(hello, agent=agent, first=1, numbered=0)

    def submit(self, policy: Policy | None = None, run: str = RUN) -> Effects:
        """Ask for a run."""
        command = SubmitRun(run[-8:].encode() * 2, run, TaskRef("env.main"), policy=policy)
        return self.tick(commands=[command])

    @property
    def run(self) -> RunState:
        """The run under test."""
        return self.book.state.runs[RUN]


def works(orders: Sequence[Order]) -> list[Work]:
    """Return the dispatches among `orders`."""
    return [order for order in orders if isinstance(order, Work)]
