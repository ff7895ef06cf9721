"""Agents of the simulated shard: the protocol of `reports`, without processes."""

import random
from collections import deque
from typing import TYPE_CHECKING

import msgspec
from sim_attempt import Attempt
from sim_calls import cache_of, ended_items, items_of, output_of, policy_of
from sim_graphs import graph_of

from millstream_events.commands import SubmitRun
from millstream_events.conditions import ConditionExtras
from millstream_events.early import RunBegun, RunDeclined
from millstream_events.ids import ROOT_ID
from millstream_events.reports import (
    CHECKPOINT_KEY,
    UNKNOWN_ACTION,
    Adopted,
    AgentBatch,
    Annotate,
    AskChildren,
    Cancel,
    Credit,
    Diverged,
    Failed,
    Forget,
    Held,
    Hello,
    Lost,
    Notified,
    Notify,
    OpenCondition,
    RecordTrace,
    Refuse,
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
from millstream_events.values import ErrorRecord, Inline, TaskRef

if TYPE_CHECKING:
    from sim_world import World

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
        outcomes = (Succeeded, Failed, Lost, RecordTrace, Annotate)
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
        #: Runs that their client has sent here as well.
        self.submissions: deque[SubmitRun] = deque()
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
                        attempt = Attempt(order, program, graphs=self.world.graphs)
                        self.attempts[order.token] = attempt
                case Release() | Refuse() | Cancel() | Adopted() if order.token in self.attempts:
                    self.told(self.attempts[order.token], order)
                case Notify():
                    self.report(Notified(order.run, order.id, "delivered"))
                case Forget():
                    self.attempts.pop(order.token, None)
                case Repeat() if order.start >= self.base:
                    self.send(order.start, self.outbox[order.start - self.base :])
                case SayHello():
                    self.wants_hello = True
                case _:
                    pass

    def told(self, attempt: Attempt, order: Release | Refuse | Cancel | Adopted) -> None:
        """Let an attempt hear what concerns it."""
        if isinstance(order, Cancel):
            attempt.cancelled = True
        elif isinstance(order, Adopted):
            attempt.work = msgspec.structs.replace(attempt.work, action=order.action)
        elif isinstance(order, Release):
            attempt.waiting.discard(order.id)
            attempt.known[order.id] = order  # type: ignore[assignment]  # same fields
            self.world.observe(order)
        elif order.retry_after_ms and order.id in attempt.waiting:
            attempt.waiting.discard(order.id)
            attempt.steps.insert(0, (attempt.kinds[order.id], order.id))

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
        if not attempt.spoke and not attempt.steps and rng.random() < 0.05:
            self.end(token, Returned(work.run, work.action, token, "busy"))
            return
        if rng.random() < 0.1:
            self.leave_behind(attempt)
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
                if work.kind == "map":
                    assert items_of(work.id) > 0, work
                    won = msgspec.structs.replace(won, items=ended_items(work.id))
                self.end(token, won)

    def leave_behind(self, attempt: Attempt) -> None:
        """Save a checkpoint; a later attempt also says that it took another way."""
        attempt.spoke = True
        note = ((work := attempt.work).run, work.action, work.token)
        self.report(Annotate(*note, CHECKPOINT_KEY, Inline("x", bytes([work.attempt]))))
        assert all(value.content[0] < work.attempt for _, value in work.kept), work
        if work.attempt > 1:
            self.report(Diverged(*note, (work.id,), b"", "warn"))

    def call(self, attempt: Attempt, kind: str, call: bytes) -> None:
        """Make one call of the attempt's program."""
        attempt.spoke = True
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
        if kind == "condition":
            timeout_ms = 150 if call[0] % 3 == 0 else 0
            url = "http://hook" if call[1] % 2 else ""
            opening = OpenCondition(
                work.run, work.action, token, call, "ask", "int", "?", url,
                ConditionExtras(timeout_ms=timeout_ms),
            )  # fmt: skip
            self.report(opening)
            return
        if kind == "graph":
            name = work.task.name
            start = StartAction(
                work.run, work.action, token, call, "graph", TaskRef(name, identity=b"g"),
                graph_of(call, name + "cc"), b"i", k=attempt.counts[call], policy=policy_of(call),
            )  # fmt: skip
            self.report(start)
            return
        task = TaskRef(work.task.name + "c", identity=b"c")
        cache_key, cache_mode = cache_of(call, heavy=self.world.cached)
        start = StartAction(
            work.run,
            work.action,
            token,
            call,
            "map" if items_of(call) else "task",
            task,
            None,
            b"i",
            k=attempt.counts[call],
            policy=policy_of(call),
            cache_key=cache_key,
            cache_mode=cache_mode,
            items=items_of(call),
        )
        self.report(self.begin_here(work, start))

    def begin_here(self, above: Work, call: StartAction) -> StartAction:
        """Start some children before the leader hears of them, also such as exist already."""
        if call.cache_key or not call.policy.idempotent or above.recovers or call.items:
            return call
        if self.world.rng.random() < 0.5:
            return call
        number, token = self.draw_token()
        work = Work(
            self.generation, above.run, UNKNOWN_ACTION, call.id, 1, token, call.task, None,
            policy=call.policy,
        )  # fmt: skip
        program = self.world.program_of(work.run)
        self.attempts[token] = Attempt(work, program, graphs=self.world.graphs)
        self.eager[token] = number
        return msgspec.structs.replace(call, eager=token, generation=self.generation)

    def take_submission(self, command: SubmitRun) -> None:
        """Begin a run that the leader may not have heard of, decline it, or lose it."""
        roll = self.world.rng.random()
        if roll < 0.2:
            self.send(self.base + len(self.outbox), [RunDeclined(command.run)])
        elif roll > 0.3:
            number, token = self.draw_token()
            work = Work(
                self.generation, command.run, 0, ROOT_ID, 1, token, command.task, command.inputs,
                policy=command.policy,
            )  # fmt: skip
            program = self.world.program_of(work.run)
            self.attempts[token] = Attempt(work, program, graphs=self.world.graphs)
            self.eager[token] = number
            self.world.began_early += 1
            self.report(RunBegun(command.run, token, self.generation))

    def draw_token(self) -> tuple[int, bytes]:
        """Return the number of the report that tells of what begins here, and its token."""
        number = self.base + len(self.outbox)
        return number, (self.starts * 1_000_000 + number).to_bytes(6, "big") + self.name.encode()

    def end(self, token: bytes, report: object) -> None:
        """End an attempt."""
        self.world.executed.append((self.attempts[token].work.run, self.attempts[token].work.id))
        del self.attempts[token]
        self.report(report)
        self.free()
