"""A whole shard in one thread under one seed: leader core, agents, clients, network, faults.

The leader's decisions, the fold and the sealing are the real ones; agents and clients are
small models that follow the protocol of `reports` and `commands`. Everything random comes from
the seed, so a failing seed is its own reproduction.
"""

import random
from collections import deque

from sim_agent import MS, SimAgent
from sim_calls import SimBlobs, cache_of
from sim_graphs import graph_of
from sim_hearing import Hearing
from sim_recoveries import Recoveries

from millstream_events.commands import (
    AbortAction,
    AbortRun,
    ClientBatch,
    ConfigureQueue,
    PauseRun,
    ResumeRun,
    RunReleased,
    SignalCondition,
    SubmitRun,
    WatchRun,
)
from millstream_events.conditions import encode_scalar
from millstream_events.early import may_begin_early
from millstream_events.endpoint import Endpoint
from millstream_events.fold import apply_shard, fold_entry
from millstream_events.ids import new_run_id
from millstream_events.model import LeaderElected
from millstream_events.phases import State
from millstream_events.ports import LogEntry
from millstream_events.queues import QueueSettings
from millstream_events.reports import (
    AgentBatch,
    Credit,
)
from millstream_events.seal import Sealed, seal
from millstream_events.state import ShardState
from millstream_events.values import Policy, TaskRef
from millstream_scheduler.book import Book, rebuild
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.decide import Inputs, decide
from millstream_scheduler.queues import queue_name
from millstream_scheduler.turn import Turn

SHARD = "lo00"


class World(Hearing, Recoveries):
    """The shard, and what can go wrong with it."""

    def __init__(
        self,
        seed: int,
        *,
        runs: int = 2,
        agents: int = 2,
        slots: int = 3,
        cached: bool = False,
        graphs: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.slots = slots
        #: Most calls, and some roots, share two cache keys and wait for each other.
        self.cached = cached
        #: Attempts call graphs, and every second root is one.
        self.graphs = graphs
        self.now_ms = 1_700_000_000_000
        self.config = SchedulerConfig(
            endpoint=Endpoint(url=""), node="n", parent_in_flight_max=2, run_in_flight_max=5
        )
        self.log: list[LogEntry] = []
        self._durable = ShardState(SHARD)
        self.pending: deque[Sealed] = deque()
        self.gated: deque[tuple[int, object]] = deque()
        self.up: deque[tuple[str, AgentBatch]] = deque()
        self.commands: deque[ClientBatch] = deque()
        self.executed: list[tuple[str, bytes]] = []
        #: Trace steps that were really taken: run, action, step.
        self.stepped: list[tuple[str, bytes, bytes]] = []
        self.origins = {}
        self.observed: dict[tuple[str, bytes], tuple[str, object]] = {}
        self.released: dict[str, RunReleased] = {}
        self.accepted: set[str] = set()
        #: Runs that an agent has got as well, and those that began there.
        self.sent: set[str] = set()
        self.began_early = 0
        self.faults = True
        self.leaders = 0
        self.blobs = SimBlobs(self.rng)
        self.book: Book
        self.elect()
        self.agents = {f"a{n}": SimAgent(self, f"a{n}") for n in range(agents)}
        self.runs = [
            new_run_id(now_ms=self.now_ms + n, random_bits=self.rng.getrandbits(48))
            for n in range(runs)
        ]

    # ---------------------------------------------------------- the log and its leader

    def fold(self, entries: list[LogEntry] | None = None) -> ShardState:
        """Return a replay of the log (or of a part of it)."""
        state = ShardState(SHARD)
        for entry in self.log if entries is None else entries:
            fold_entry(state, entry)
        return state

    def durable(self) -> ShardState:
        """Return what the log says, folded as it grows: to look at, never to be changed."""
        for entry in self.log[self._durable.seq :]:
            fold_entry(self._durable, entry)
        return self._durable

    def elect(self) -> None:
        """Start a new leader from the log alone."""
        self.leaders += 1
        state = self.fold()
        state.epoch += 1
        state.number = 0
        elected = LeaderElected(0, epoch=state.epoch, node=f"n{self.leaders}")
        apply_shard(state, elected)
        for frame in seal(state, {}, [elected], now_ns=self.now_ms * MS):
            self.store(frame)
        self.pending.clear()
        self.gated.clear()
        self.open_turn: Turn | None = None
        self.blobs.crash()
        secret = bytes([self.leaders % 256]) * 32
        self.book = rebuild(state, self.config, secret, self.sources_of_open_runs(state))
        self.elected_ms = self.now_ms
        self.adopted = False
        self.fresh = True
        for agent in getattr(self, "agents", {}).values():
            agent.inbox.clear()
            agent.wants_hello = True

    def store(self, frame: Sealed) -> None:
        """Append one frame, fenced."""
        assert frame.expected_seq == len(self.log), (frame.expected_seq, len(self.log))
        self.log.append(LogEntry(len(self.log) + 1, frame.key, frame.payload))

    def tick(self) -> None:
        """Let the leader tick on what has arrived."""
        reports = []
        for _ in range(self.rng.randint(0, 4)):
            if self.up:
                agent, batch = self.up.popleft()
                reports.append(("default", agent, batch))
        commands = [self.commands.popleft()] if self.commands and self.rng.random() < 0.7 else []
        adoption_over = not self.adopted and self.now_ms - self.elected_ms > 300
        self.adopted |= adoption_over
        turn, _ = decide(
            self.book,
            Inputs(
                self.now_ms * MS,
                self.now_ms * MS,
                reports,
                commands,
                self.sources_for(commands),
                blobs=self.blobs.answers(),
                node="n#1",
                look_round=self.rng.random() < 0.1,
                took_over=self.fresh,
                adoption_over=adoption_over,
            ),
            self.open_turn,
        )
        self.fresh = False
        self.open_turn = turn if turn.is_open and self.rng.random() < 0.8 else None
        if self.open_turn is not None:
            return
        self.check_queues()
        self.blobs.ask(turn.effects.blobs)
        self.pending.extend(turn.frames())
        for agent, orders in turn.effects.agents_now.items():
            self.tell(agent, orders, None)
        self.gated.append((self.book.state.seq, turn.effects))
        self.book.finished.clear()

    def check_queues(self) -> None:
        """Compare the counters of the queues with a count of what the folded state says."""
        book = self.book
        live = [run for run in book.state.runs.values() if run.decidable and run.actions]
        for name in book.queues.settings:
            under_way = {r.id for r in live if r.started_ns and queue_name(r, 0) == name}
            assert book.queues.runs_in(name) == len(under_way), self.seed
            busy = sum(
                queue_name(run, ordinal) == name and book.counts(action)
                for run in live
                for ordinal, action in enumerate(run.actions)
            )
            assert book.queues.busy_in(name) == busy, self.seed

    def acknowledge(self, count: int) -> None:
        """Make the first `count` frames in flight durable, and act on them."""
        for _ in range(min(count, len(self.pending))):
            self.store(self.pending.popleft())
        while self.gated and self.gated[0][0] <= len(self.log):
            _, effects = self.gated.popleft()
            for agent in {**effects.agents_durable, **effects.acks}:
                self.tell(agent, effects.agents_durable.get(agent, []), effects.acks.get(agent))
            for replies in [*effects.clients_durable.values(), *effects.clients_now.values()]:
                self.hear_replies(replies)

    # ---------------------------------------------------------- the world's own moves

    def submit(self, run: str) -> None:
        """Ask for a run, possibly again."""
        number = self.runs.index(run)
        key, mode = cache_of(run.encode(), heavy=True) if self.cached else (b"", 0)
        program = self.program_of(run)
        is_graph = self.graphs and self.runs.index(program) % 2 == 0
        command = SubmitRun(
            bytes([number]) * 16,
            run,
            TaskRef("t"),
            policy=Policy(
                retries=3, system_retries=50, grace_ms=50, queue="default" if number % 2 else ""
            ),
            body=b"same",
            cache_mode=mode,
            cache_key=key,
            deadline_ms=4000 if number % 3 == 2 else 0,
            origin=self.origins.get(run),
            settings=(("cache_scope", "project-domain"),) if self.seed % 3 == number else (),
            inputs=graph_of(program.encode(), "tcc") if is_graph else None,
            kind="graph" if is_graph else "",
        )
        host = self.host_for(command)
        if host is not None:
            host.submissions.append(command)
        address = "" if host is None else f"lo.default.{host.name}"
        self.commands.append(ClientBatch("me.1", (command, WatchRun(b"w" * 16, run)), address))

    def host_for(self, command: SubmitRun) -> SimAgent | None:
        """Return an agent that gets a run as well: at most once, as clients do."""
        if command.run in self.sent or not may_begin_early(command) or self.rng.random() < 0.3:
            return None
        self.sent.add(command.run)
        return self.rng.choice(list(self.agents.values()))

    def answer(self, *, everything: bool) -> None:
        """Answer conditions that wait, some twice or wrongly; once answered, it stays so."""
        for run in self.book.state.runs.values():
            for action in run.actions:
                if action.state == State.WAITING and action.kind == "condition":
                    if not everything and self.rng.random() < 0.5:
                        continue
                    for value in self.rng.sample([1, 2, "no"], k=2):
                        command = SignalCondition(
                            b"s" * 16, run.id, action.id, encode_scalar(value)
                        )
                        self.commands.append(ClientBatch("me.1", (command,)))

    def fault(self) -> None:
        """Break something."""
        kinds = ["leader", "agent", "spool", "cut", "dup", "abort", "child", "pause", "queue"]
        kind = self.rng.choice(kinds)
        agent = self.rng.choice(list(self.agents.values()))
        run = self.rng.choice(self.runs)
        match kind:
            case "leader":
                # Some of what was in flight landed: always a prefix.
                for _ in range(self.rng.randint(0, len(self.pending))):
                    self.store(self.pending.popleft())
                self.elect()
            case "agent" | "spool":
                self.up = deque(item for item in self.up if item[0] != agent.name)
                agent.restart(spooled=kind == "spool")
            case "cut":
                self.up = deque(item for item in self.up if item[0] != agent.name)
                agent.inbox.clear()
                agent.wants_hello = True
            case "dup" if self.up:
                self.up.append(self.up[0])
            case "abort" if self.rng.random() < 0.15:
                self.commands.append(ClientBatch("me.1", (AbortRun(b"a" * 16, run),)))
            case "child":
                action = self.rng.randint(0, 4)
                self.commands.append(ClientBatch("me.1", (AbortAction(b"b" * 16, run, action),)))
            case "pause":
                self.commands.append(ClientBatch("me.1", (PauseRun(b"p" * 16, run),)))
                self.commands.append(ClientBatch("me.1", (ResumeRun(b"r" * 16, run),)))
            case "queue":
                pick = self.rng.choice
                settings = QueueSettings(
                    pick([0, 1]), pick([0, 1, 2]), pick([0, 1, 9]), pick([1, 50, 100]),
                    pick(["", "default"]), pick([True, False]),
                )  # fmt: skip
                create = ConfigureQueue(b"q" * 16, "default", settings, create=True)
                update = ConfigureQueue(b"q" * 16, "default", settings)
                self.commands.append(ClientBatch("me.1", (pick([create, update]),)))
            case _:
                pass

    def step(self) -> None:
        """Make one move."""
        self.now_ms += self.rng.randint(0, 8)
        roll = self.rng.random()
        agent = self.rng.choice(list(self.agents.values()))
        if roll < 0.3:
            self.tick()
        elif roll < 0.5:
            self.acknowledge(self.rng.randint(1, 3))
        elif roll < 0.9:
            if agent.wants_hello:
                agent.hello()
            elif agent.submissions:
                agent.take_submission(agent.submissions.popleft())
            elif agent.inbox and self.rng.random() < 0.6:
                agent.hear(agent.inbox.popleft())
            elif agent.attempts:
                agent.step(self.rng)
            else:
                agent.send(
                    agent.base + len(agent.outbox), [Credit(agent.generation, agent.granted)]
                )
        elif roll < 0.93:
            self.submit(self.rng.choice(self.runs))
        elif roll < 0.935:
            self.answer(everything=False)
        elif self.faults and roll < 0.95:
            self.fault()

    def live(self, *, steps: int, recoveries: int = 2) -> None:
        """Run with faults for `steps`, heal, and run until every run is over.

        Then let further runs recover earlier ones, one after the other, in the same way.
        """
        for run in self.runs:
            self.submit(run)
        self.settle(steps)
        for _ in range(recoveries):
            self.submit(self.recover(self.rng.choice(self.runs)))
            self.faults = True
            self.settle(steps // 4)
        self.check_recoveries()
