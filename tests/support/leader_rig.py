"""A leader on the adapters in memory, with an agent and a client that follow the protocol.

The leader's ports can die at any step, as its process would: nothing goes out afterwards, and
what was in flight lands or does not.
"""

import asyncio
from collections.abc import Callable, Sequence

from mortal_ports import Fuse, MortalBus, MortalLog
from set_time import LoopClock

from millstream_events import subjects
from millstream_events.codec import decoder_of, encode
from millstream_events.commands import (
    Accepted,
    ClientBatch,
    Command,
    LeaderAnnounced,
    Rejected,
    Reply,
    RunReleased,
    SubmitRun,
    ToClient,
    WatchRun,
)
from millstream_events.early import EARLY_RUNS
from millstream_events.endpoint import Endpoint
from millstream_events.fold import fold_entry
from millstream_events.gates import Gates
from millstream_events.ids import child_id, new_run_id
from millstream_events.memory import MemoryConnection
from millstream_events.memory_faults import FaultPlan
from millstream_events.memory_log import MemoryRecords
from millstream_events.ports import LogEntry
from millstream_events.reports import (
    AgentBatch,
    AskChildren,
    Failed,
    Forget,
    Held,
    Hello,
    JournalEntry,
    Release,
    Repeat,
    Report,
    SayHello,
    StartAction,
    Succeeded,
    ToAgent,
    Work,
)
from millstream_events.state import ShardState
from millstream_events.values import ErrorRecord, Inline, Policy, TaskRef
from millstream_scheduler.book import rebuild
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.leader import Leader
from millstream_scheduler.takeover import elect

SHARD = "lo00"
NS = Endpoint(url="").namespace
RUN = new_run_id(now_ms=1_700_000_000_000, random_bits=7)
REPORTS = subjects.report_subject(NS, SHARD, "default", "a")
COMMANDS = subjects.command_subject(NS, SHARD, "me")
WORK = subjects.work_subject(NS, "lo", "default", "a")
DEADLINE_S = 5.0


async def until(happened: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> None:
    """Wait until `happened()` is true."""
    async with asyncio.timeout(deadline_s):
        while not happened():
            await asyncio.sleep(0.001)


def fold(entries: Sequence[LogEntry]) -> ShardState:
    """Return a replay."""
    state = ShardState(SHARD)
    for entry in entries:
        fold_entry(state, entry)
    return state


def entries_of(records: MemoryRecords) -> list[LogEntry]:
    """Return all that a log holds."""
    return records.read(0, None, 1_000_000)


class Rig:
    """One installation, and leaders that come and go."""

    def __init__(self, **settings: int) -> None:
        self.connection = MemoryConnection()
        self.records = self.connection.installation.records(SHARD)
        self.config = SchedulerConfig(endpoint=Endpoint(url=""), node="n", **settings)
        self.clock = LoopClock()
        self.leaders: list[Leader] = []
        self.early: list[str] = []
        self.gates_opened = 0
        self.agent: ScriptAgent | None = None

    async def lead(
        self, *, die_at: int = 0, lose_in_flight: bool = False, plan: FaultPlan | None = None
    ) -> Leader:
        """Start a leader that knows the log alone; `plan` says what fails on its connection."""
        fuse = self.fuse = Fuse(die_at)
        connection = self.connection.peer(plan=plan)
        self.log = MortalLog(connection.event_log(SHARD), fuse)
        state = ShardState(SHARD)
        await elect(connection.event_log(SHARD), state, node="n", clock=self.clock)
        self.log.told_seq = state.seq
        book = rebuild(state, self.config, bytes([len(self.leaders) + 1]) * 32)
        bus = MortalBus(connection, fuse, self._inspect)
        ends = (self.log, bus, self.clock, connection.blobs)
        leader = Leader(book, *ends, endpoint=self.config.endpoint, node="n#1")
        self.leaders.append(leader)
        leader.start()
        if die_at:

            async def funeral() -> None:
                await fuse.blown.wait()
                leader.stop("killed")
                if lose_in_flight:
                    connection.cut()

            self._funeral = asyncio.create_task(funeral())
        return leader

    def stop(self) -> None:
        """Stop all leaders."""
        for leader in self.leaders:
            leader.stop()

    def replayed(self, upto_seq: int | None = None) -> ShardState:
        """Return a fold of the log, or of its first `upto_seq` records."""
        entries = entries_of(self.records)
        return fold(entries if upto_seq is None else entries[:upto_seq])

    def _inspect(self, subject: str, payload: bytes) -> None:
        """Note what leaves before the leader has been told that its event is durable.

        What waits behind a gate may leave; it is looked at when the gate opens.
        """
        message: ToClient | ToAgent | None = None
        if ".to." in subject:
            message = decoder_of(ToClient)(payload)
        elif ".work." in subject:
            message = decoder_of(ToAgent)(payload)
        if message is not None and not message.gate:
            self.check(message, self.replayed(self.log.told_seq))

    def opened(self, message: ToClient | ToAgent) -> None:
        """Note what a gate has let through though the log does not hold its event."""
        self.gates_opened += 1
        self.check(message, self.replayed(message.gate_seq))

    def check(self, message: ToClient | ToAgent, durable: ShardState) -> None:
        """Note what `message` says that is not in the `durable` log."""
        if isinstance(message, ToAgent):
            self._check_orders(message, durable)
            return
        for reply in message.items:
            if isinstance(reply, Accepted) and (
                reply.run not in durable.runs or durable.runs[reply.run].rev < reply.rev
            ):
                self.early.append(f"{reply}")
            if isinstance(reply, RunReleased) and durable.runs[reply.run].phase != reply.phase:
                self.early.append(f"{reply}")

    def _check_orders(self, to_agent: ToAgent, durable: ShardState) -> None:
        for order in to_agent.items:
            run = durable.runs.get(getattr(order, "run", ""))
            if isinstance(order, Release) and (
                run is None or (not run.finished and not run.actions[order.action].terminal)
            ):
                self.early.append(f"{order}")
            once = isinstance(order, Work) and order.policy and not order.policy.idempotent
            if once and (run is None or run.actions[order.action].token != order.token):
                self.early.append(f"{order}")
        if self.agent is not None and self.agent.incarnation == to_agent.incarnation:
            self.early += self.agent.undone(to_agent.acked, durable)


def seen(outcome: Release | JournalEntry) -> Inline:
    """Return what the root sees of a child: its output, or that it was lost."""
    return outcome.output if isinstance(outcome.output, Inline) else Inline("x", b"lost")


class ScriptAgent:
    """An agent by the protocol; the root calls two children, which fail at first.

    With `once` the second child may be started at most once, and succeeds.
    """

    def __init__(
        self, rig: Rig, *, incarnation: str = "i1", credit: int = 8, once: bool = False
    ) -> None:
        rig.agent = self
        self.once = once
        self.incarnation = incarnation
        self.credit = credit
        self.heard: list[ToAgent] = []
        self.starts: list[Work] = []
        self._bus = rig.connection.peer().bus
        self._base = 1
        self._outbox: list[Report] = []
        self._generation = 0
        self._epoch = 0
        self._attempts: dict[bytes, Work] = {}
        self._known: dict[bytes, dict[bytes, Inline]] = {}
        decode_announced = decoder_of(LeaderAnnounced)
        decode_orders = decoder_of(ToAgent)

        def announced(_: str, payload: bytes) -> None:
            message = decode_announced(payload)
            assert message is not None
            if message.epoch > self._epoch:
                self._epoch = message.epoch
                self.hello()

        def ordered(_: str, payload: bytes) -> None:
            message = decode_orders(payload)
            assert message is not None
            if message.gate:
                gates.keep(message.gate, message.gate_seq, message)
            else:
                self._hear(message)

        def opened(message: ToAgent) -> None:
            rig.opened(message)
            self._hear(message)

        gates = Gates[ToAgent](opened)
        acks = subjects.ack_subject(NS, SHARD, "default.a", "*", "*")
        self._ends = [
            self._bus.subscribe(subjects.leader_subject(NS, SHARD), announced),
            self._bus.subscribe(WORK, ordered),
            self._bus.subscribe(acks, gates.hear),
        ]

    def leave(self) -> None:
        """End without a word."""
        for end in self._ends:
            end()

    def hello(self) -> None:
        """Introduce the agent; repeat what is not acknowledged, ask for what is awaited."""
        self._generation += 1
        ended = [item for item in self._outbox if isinstance(item, (Succeeded, Failed))]
        held = [Held(w.run, w.action, w.attempt, t) for t, w in self._attempts.items()]
        held += [Held(item.run, item.action, 0, item.token) for item in ended]
        credit = max(0, self.credit - len(self._attempts))
        hello = Hello(
            self._generation,
            "default",
            "lo",
            "",
            (),
            8,
            credit,
            tuple(held),
            features=(EARLY_RUNS,),
        )
        self.send(self._base, [*self._outbox, hello])
        for token, work in self._attempts.items():
            asked = tuple(c for c in self._children(work) if c not in self._known[token])
            if asked:
                self.send(self._base, [AskChildren(work.run, work.action, token, asked)])

    def send(self, first: int, items: Sequence[Report]) -> None:
        """Publish one batch."""
        self._bus.publish(REPORTS, encode(AgentBatch(self.incarnation, first, tuple(items))))

    def report(self, *items: Report) -> None:
        """Number and send."""
        first = self._base + len(self._outbox)
        self._outbox += items
        self.send(first, items)

    def undone(self, acked: int, durable: ShardState) -> list[str]:
        """Return the reports up to number `acked` that a durable log knows nothing of."""
        found = []
        for number, item in enumerate(self._outbox, self._base):
            run = durable.runs.get(getattr(item, "run", ""))
            if number > acked or (run is not None and run.finished):
                continue
            if run is None:
                found.append(f"ack of {item}")
            elif isinstance(item, (Succeeded, Failed)):
                if run.actions[item.action].token == item.token:
                    found.append(f"ack of {item}")
            elif isinstance(item, StartAction) and item.id not in run.ordinals:
                found.append(f"ack of {item}")
        return found

    def _children(self, work: Work) -> list[bytes]:
        if work.action:
            return []
        return [
            child_id(work.id, task_identity=b"c", inputs_hash=b"h", group="", k=k) for k in range(2)
        ]

    def _hear(self, message: ToAgent) -> None:
        self.heard.append(message)
        if message.epoch < self._epoch or message.incarnation != self.incarnation:
            return
        while self._base <= message.acked and self._outbox:
            self._outbox.pop(0)
            self._base += 1
        for order in message.items:
            if isinstance(order, Work) and order.generation == self._generation:
                self._start(order)
            elif isinstance(order, Release) and order.token in self._attempts:
                self._known[order.token][order.id] = seen(order)
                self._go_on(self._attempts[order.token])
            elif isinstance(order, Forget):
                self._attempts.pop(order.token, None)
            elif isinstance(order, Repeat) and order.start >= self._base:
                self.send(order.start, self._outbox[order.start - self._base :])
            elif isinstance(order, SayHello):
                self.hello()

    def _start(self, work: Work) -> None:
        self.starts.append(work)
        self._attempts[work.token] = work
        self._known[work.token] = {entry.id: seen(entry) for entry in work.journal}
        known = self._known[work.token]
        calls = [(k, call) for k, call in enumerate(self._children(work)) if call not in known]
        for k, call in calls:
            policy = Policy(retries=1, idempotent=k == 0 or not self.once)
            self.report(
                StartAction(
                    *(work.run, work.action, work.token, call, "task", TaskRef("e.c")),
                    *(None, b"h"),
                    k=k,
                    policy=policy,
                )
            )
        if not calls:
            self._go_on(work)

    def _go_on(self, work: Work) -> None:
        known = self._known[work.token]
        if any(call not in known for call in self._children(work)):
            return
        del self._attempts[work.token]
        rules = work.policy or Policy()
        if work.action and rules.idempotent and work.attempt == 1:
            error = ErrorRecord("user", "ValueError", "first")
            self.report(Failed(work.run, work.action, work.token, error, "w", 1, 2))
            return
        told = b"".join(known[call].content for call in self._children(work))
        output = Inline("x", told or work.id)
        self.report(Succeeded(work.run, work.action, work.token, output, "w", 1, 2))


class ScriptClient:
    """A client by the protocol: repeats what is unanswered on every new epoch."""

    def __init__(self, rig: Rig) -> None:
        self.replies: list[Reply] = []
        self._bus = rig.connection.peer().bus
        self._epoch = 0
        self._open: list[Command] = []
        decode_announced = decoder_of(LeaderAnnounced)
        decode_replies = decoder_of(ToClient)

        def announced(_: str, payload: bytes) -> None:
            message = decode_announced(payload)
            assert message is not None
            if message.epoch > self._epoch:
                self._epoch = message.epoch
                self._say(self._open)

        def replied(_: str, payload: bytes) -> None:
            message = decode_replies(payload)
            assert message is not None
            if message.gate:
                gates.keep(message.gate, message.gate_seq, message)
            else:
                take(message)

        def opened(message: ToClient) -> None:
            rig.opened(message)
            take(message)

        def take(message: ToClient) -> None:
            self.replies += message.items
            self._open = [each for each in self._open if not self._answered(each)]

        gates = Gates[ToClient](opened)
        acks = subjects.ack_subject(NS, SHARD, "me.1", "*", "*")
        self._bus.subscribe(acks, gates.hear)
        self._bus.subscribe(subjects.leader_subject(NS, SHARD), announced)
        self._bus.subscribe(subjects.client_subject(NS, "me", "1"), replied)

    def submit(self, run: str = RUN, policy: Policy | None = None) -> None:
        """Ask for a run and for its end."""
        command = run[-16:].encode()
        self.ask(
            SubmitRun(command, run, TaskRef("e.main"), policy=policy), WatchRun(b"w" * 16, run)
        )

    def ask(self, *commands: Command) -> None:
        """Send, and repeat until answered."""
        self._open += commands
        self._say(commands)

    @property
    def released(self) -> list[RunReleased]:
        """Ends that were heard of."""
        return [reply for reply in self.replies if isinstance(reply, RunReleased)]

    def codes(self) -> list[str]:
        """Return the codes of all refusals heard."""
        return [reply.code for reply in self.replies if isinstance(reply, Rejected)]

    def accepted(self) -> list[str]:
        """Return the runs that were accepted, each once: a repeated command is answered again."""
        runs = [reply.run for reply in self.replies if isinstance(reply, Accepted)]
        return list(dict.fromkeys(runs))

    def _answered(self, command: Command) -> bool:
        if isinstance(command, WatchRun):
            return any(reply.run == command.run for reply in self.released)
        return any(
            reply.command == command.command
            for reply in self.replies
            if isinstance(reply, (Accepted, Rejected))
        )

    def _say(self, commands: Sequence[Command]) -> None:
        if commands:
            self._bus.publish(COMMANDS, encode(ClientBatch("me.1", tuple(commands))))
