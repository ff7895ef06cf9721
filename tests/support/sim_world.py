"""A whole shard in one thread under one seed: leader core, agents, clients, network, faults.

The leader's decisions, the fold and the sealing are the real ones; agents and clients are
small models that follow the protocol of `reports` and `commands`. Everything random comes from
the seed, so a failing seed is its own reproduction.
"""

import random
from collections import deque

import msgspec
from sim_attempt import Attempt
from sim_calls import SimBlobs, cache_of, output_of, policy_of
from sim_hearing import Hearing
from sim_recoveries import Recoveries

from millstream_events.commands import (
    AbortAction,
    AbortRun,
    ClientBatch,
    PauseRun,
    ResumeRun,
    RunReleased,
    SubmitRun,
    WatchRun,
)
from millstream_events.endpoint import Endpoint
from millstream_events.fold import apply_shard, fold_entry
from millstream_events.ids import new_run_id
from millstream_events.model import LeaderElected
from millstream_events.ports import LogEntry
from millstream_events.reports import (
    UNKNOWN_ACTION,
    Adopted,
    AgentBatch,
    AskChildren,
    Cancel,
    Credit,
    Failed,
    Forget,
    Held,
    Hello,
    Lost,
    RecordTrace,
    Release,
    Repeat,
    Returned,
    SayHello,
    SetTimer,
    StartAction,
    Started,
    Succeeded,
    ToAgent,
    Work,
)
from millstream_events.seal import Sealed, seal
from millstream_events.state import ShardState
from millstream_events.values import ErrorRecord, Inline, Policy, TaskRef
from millstream_scheduler.book import Book, rebuild
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.decide import Inputs, decide

SHARD = "lo00"
MS = 1_000_000


class SimAgent:
    """An agent by the protocol, without processes."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.starts = 0
        self.spool: list[object] = []
        self.restart(spooled=False)

    def restart(self, *, spooled: bool) -> None:
        """Begin a new incarnation; with `spooled`, outcomes of the former are reported first."""
        self.starts += 1
        self.incarnation = f"{self.name}-{self.starts}"
        outcomes = (Succeeded, Failed, Lost, RecordTrace)
        kept = [item for item in getattr(self, "outbox", []) if isinstance(item, outcomes)]
        self.outbox: list[object] = kept if spooled else []
        self.base = 1
        self.generation = 0
        self.epoch = 0
        self.granted = 0
        self.attempts: dict[bytes, Attempt] = {}
        #: Attempts that began here -> number of the call that tells of them.
        self.eager: dict[bytes, int] = {}
        self.inbox: deque[ToAgent] = deque()
        self.wants_hello = True

    def report(self, item: object) -> None:
        """Number and send one report."""
        self.outbox.append(item)
        self.send(self.base + len(self.outbox) - 1, [item])

    def send(self, first: int, items: list[object]) -> None:
        """Put one batch on the network."""
        self.world.up.append((self.name, AgentBatch(self.incarnation, first, tuple(items))))

    def hello(self) -> None:
        """Introduce the agent and repeat what is not acknowledged."""
        self.wants_hello = False
        self.generation += 1
        self.granted = max(0, self.world.slots - len(self.attempts))
        unacked = {getattr(item, "token", b"") for item in self.outbox}
        held = [
            Held(
                a.work.run,
                a.work.action,
                a.work.attempt,
                token,
                self.eager.get(token, -1) >= self.base,
            )
            for token, a in self.attempts.items()
        ]
        held += [
            Held(item.run, item.action, 0, item.token)
            for item in self.outbox
            if isinstance(item, (Succeeded, Failed, Lost)) and item.token in unacked
        ]
        introduction = Hello(
            self.generation, "default", "lo", "", (), self.world.slots, self.granted, tuple(held)
        )
        self.send(self.base, [*self.outbox, introduction])
        for token, attempt in self.attempts.items():
            if attempt.waiting:
                ids = tuple(sorted(attempt.waiting))
                work = attempt.work
                self.send(self.base, [AskChildren(work.run, work.action, token, ids)])

    def hear(self, message: ToAgent) -> None:
        """Take orders."""
        if message.epoch < self.epoch or message.incarnation != self.incarnation:
            return
        if message.epoch > self.epoch:
            self.epoch = message.epoch
        while self.base <= message.acked and self.outbox:
            self.outbox.pop(0)
            self.base += 1
        for order in message.items:
            match order:
                case Work():
                    if order.generation == self.generation:
                        program = self.world.program_of(order.run)
                        self.attempts[order.token] = Attempt(order, program)
                case Release() if order.token in self.attempts:
                    attempt = self.attempts[order.token]
                    attempt.waiting.discard(order.id)
                    attempt.known[order.id] = order  # type: ignore[assignment]  # same fields
                    self.world.observe(order)
                case Cancel() if order.token in self.attempts:
                    self.attempts[order.token].cancelled = True
                case Adopted() if order.token in self.attempts:
                    adopted = self.attempts[order.token]
                    adopted.work = msgspec.structs.replace(adopted.work, action=order.action)
                case Forget():
                    self.attempts.pop(order.token, None)
                case Repeat() if order.start >= self.base:
                    self.send(order.start, self.outbox[order.start - self.base :])
                case SayHello():
                    self.wants_hello = True
                case _:
                    pass

    def free(self) -> None:
        """Grant one more dispatch."""
        self.granted += 1
        self.send(self.base + len(self.outbox), [Credit(self.generation, self.granted)])

    def step(self, rng: random.Random) -> None:
        """Let one attempt do one thing."""
        token = rng.choice(list(self.attempts))
        attempt = self.attempts[token]
        work = attempt.work
        if attempt.cancelled and rng.random() < 0.7:
            error = ErrorRecord("cancelled", "CancelledError", "cancelled", retryable=False)
            self.end(token, Failed(work.run, work.action, token, error))
            return
        if rng.random() < 0.05:
            self.end(token, Lost(work.run, work.action, token, "worker-crashed"))
            return
        if not attempt.steps and not attempt.waiting and rng.random() < 0.05:
            self.end(token, Returned(work.run, work.action, token, "busy"))
            return
        if rng.random() < 0.2:
            self.report(Started(work.run, work.action, token, "w", 1, self.world.now_ms * MS))
        while attempt.steps and attempt.steps[0][1] in attempt.known:
            attempt.steps.pop(0)
        if attempt.steps:
            self.call(attempt, *attempt.steps.pop(0))
        elif not attempt.waiting:
            if attempt.fails():
                error = ErrorRecord("user", "ValueError", "no")
                self.end(token, Failed(work.run, work.action, token, error, "w", 1, 2))
            else:
                won = Succeeded(work.run, work.action, token, output_of(work.id), "w", 1, 2)
                self.end(token, won)

    def call(self, attempt: Attempt, kind: str, call: bytes) -> None:
        """Make one call of the attempt's program."""
        work = attempt.work
        token = work.token
        if kind == "trace":
            self.world.stepped.append((work.run, work.id, call))
            done = Inline("x", call)
            self.report(RecordTrace(work.run, work.action, token, call, "t", b"", done, None, 1, 2))
            return
        attempt.waiting.add(call)
        if kind == "timer":
            due_ms = self.world.now_ms + 20
            self.report(SetTimer(work.run, work.action, token, call, due_ms))
            return
        task = TaskRef(work.task.name + "c", identity=b"c")
        cache_key, cache_mode = cache_of(call, heavy=self.world.cached)
        start = StartAction(
            work.run,
            work.action,
            token,
            call,
            "task",
            task,
            None,
            b"i",
            k=attempt.counts[call],
            policy=policy_of(call),
            cache_key=cache_key,
            cache_mode=cache_mode,
        )
        self.report(self.begin_here(work, start))

    def begin_here(self, above: Work, call: StartAction) -> StartAction:
        """Start some children before the leader hears of them, also such as exist already."""
        if call.cache_key or not call.policy.idempotent or above.recovers:
            return call
        if self.world.rng.random() < 0.5:
            return call
        number = self.base + len(self.outbox)
        token = (self.starts * 1_000_000 + number).to_bytes(6, "big") + self.name.encode()[-2:]
        work = Work(
            self.generation, above.run, UNKNOWN_ACTION, call.id, 1, token, call.task, None,
            policy=call.policy,
        )  # fmt: skip
        self.attempts[token] = Attempt(work, self.world.program_of(work.run))
        self.eager[token] = number
        return msgspec.structs.replace(call, eager=token, generation=self.generation)

    def end(self, token: bytes, report: object) -> None:
        """End an attempt."""
        self.world.executed.append((self.attempts[token].work.run, self.attempts[token].work.id))
        del self.attempts[token]
        self.report(report)
        self.free()


class World(Hearing, Recoveries):
    """The shard, and what can go wrong with it."""

    def __init__(
        self, seed: int, *, runs: int = 2, agents: int = 2, slots: int = 3, cached: bool = False
    ) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.slots = slots
        #: Most calls, and some roots, share two cache keys and wait for each other.
        self.cached = cached
        self.now_ms = 1_700_000_000_000
        self.config = SchedulerConfig(
            endpoint=Endpoint(url=""), node="n", parent_in_flight_max=2, run_in_flight_max=5
        )
        self.log: list[LogEntry] = []
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
        )
        self.fresh = False
        self.blobs.ask(turn.effects.blobs)
        self.pending.extend(turn.frames())
        for agent, orders in turn.effects.agents_now.items():
            self.tell(agent, orders, None)
        self.gated.append((self.book.state.seq, turn.effects))
        self.book.finished.clear()

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
        command = SubmitRun(
            bytes([number]) * 16,
            run,
            TaskRef("t"),
            policy=Policy(retries=3, system_retries=50, grace_ms=50),
            body=b"same",
            cache_mode=mode,
            cache_key=key,
            deadline_ms=4000 if number % 3 == 2 else 0,
            origin=self.origins.get(run),
            settings=(("cache_scope", "project-domain"),) if self.seed % 3 == number else (),
        )
        self.commands.append(ClientBatch("me.1", (command, WatchRun(b"w" * 16, run))))

    def fault(self) -> None:
        """Break something."""
        kinds = ["leader", "agent", "spool", "cut", "dup", "abort", "child", "pause"]
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
