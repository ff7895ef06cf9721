"""The state of an agent's core, and the few steps that every part of it is made of.

Theory of operation. An attempt is in exactly one `Stage`, and slots are not kept as a number of
their own: a slot is in use for each attempt in `Stage.RUNNING` (short ones that share a loop
share slots too, see `Pace.sharers`). `move` is the only place that changes a stage, so counts,
workers' loads and slots cannot drift apart. Inputs only move
attempts and queue what is to be said; `AgentCore.take` then fills free slots, grants credit and
hands out one batch in each direction.
"""

from collections import deque
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec

from millstream_events.ports import OutputLine
from millstream_events.reports import Failed, Report, Work
from millstream_events.values import ErrorRecord, Inline
from millstream_executor.credit import CreditLine, Pace
from millstream_executor.crew import Crew, CrewMember
from millstream_executor.effects import Effect, KillWorker
from millstream_executor.held import STAGES, HeldAttempt, Stage
from millstream_executor.link import Drain, Kept, ToWorker
from millstream_executor.outbox import Outbox

#: Ended attempts that are remembered: for late output, and against a dispatch that comes twice.
OVER_MAX: Final = 4_096
#: (task identity, inputs) pairs remembered for having been in a worker that crashed.
SUSPECTS_MAX: Final = 1_024

#: Task identity, and the inputs or their digest.
Suspect: TypeAlias = tuple[bytes, bytes]


class CoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent's core has to know of its configuration."""

    incarnation: str
    pool: str
    region: str
    cluster: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    slots: int
    #: Worker processes for each class (bundle, kind, environment).
    workers: int
    #: Worker processes in all; parked alone workers are counted apart.
    processes_max: int = 64
    #: Alone workers that may be parked; a call beyond it is refused as nested too deeply.
    parked_alone_max: int = 256
    pid: int = 0
    memory_bytes: int = 0


class Keeping(NamedTuple):
    """Something left behind that is not acknowledged yet."""

    #: Of the report that brings it to the leader.
    number: int
    #: Worker that waits for it.
    worker: str
    answer: Kept


class AgentState:
    """Everything that an agent's core knows. Changed by the core's own modules only."""

    def __init__(self, settings: CoreSettings) -> None:
        self.settings = settings
        self.epoch = 0
        self.outbox = Outbox()
        self.credit = CreditLine()
        self.pace = Pace()
        self.crew = Crew(class_max=settings.workers, processes_max=settings.processes_max)
        #: Every attempt that is not over, by token.
        self.held: dict[bytes, HeldAttempt] = {}
        #: (run, id of the action) -> token of the newest attempt.
        self.current: dict[tuple[str, bytes], bytes] = {}
        #: Attempts by stage; the sum over all but `OVER` is `len(held)`.
        self.counts = [0] * STAGES
        #: Attempts in `Stage.RUNNING` that are light.
        self.light_running = 0
        #: In order of arrival; entries whose stage has changed meanwhile are skipped.
        self.queue: deque[HeldAttempt] = deque()
        self.resume: deque[HeldAttempt] = deque()
        #: User code runs and `Started` is not reported; oldest first.
        self.fresh_starts: dict[bytes, HeldAttempt] = {}
        #: Parked and `Parked` is not reported; oldest first.
        self.fresh_parks: dict[bytes, HeldAttempt] = {}
        #: Told to end.
        self.stopping: dict[bytes, HeldAttempt] = {}
        #: Workers that hold an attempt which could not be cancelled.
        self.draining: dict[str, CrewMember] = {}
        #: Workers told to end, and when.
        self.dismissed: dict[str, int] = {}
        #: Token of an older attempt -> the attempt of the same action that waits for its end.
        self.successors: dict[bytes, HeldAttempt] = {}
        self.bundles: dict[bytes, Path] = {}
        self.fetching: dict[bytes, list[HeldAttempt]] = {}
        self.suspects: dict[Suspect, int] = {}
        self.keeping: deque[Keeping] = deque()
        #: Run and action of ended attempts.
        self.over: dict[bytes, tuple[str, int]] = {}
        self._over_order: deque[bytes] = deque()
        #: Attempts that have begun here before the leader heard of them.
        self.eager_count = 0
        #: When the newest report was sent that the leader has acknowledged.
        self.trusted_ns = 0
        #: Calls among `reports` that have begun here, and since when they are kept back.
        self.held_back, self.held_back_ns = 0, 0
        #: What attempts without a known ordinal have printed: lines, and how many were dropped.
        self.unplaced: dict[bytes, tuple[list[OutputLine], int]] = {}
        #: The agent leaves: no new work.
        self.leaving = False
        #: No credit is granted before this time: there was no room for a worker.
        self.no_room_until_ns = 0
        self.slot_freed_ns = 0
        # What `take` hands out.
        self.effects: list[Effect] = []
        self.messages: dict[str, list[ToWorker]] = {}
        #: Numbered reports of this tick; the last entries of the outbox.
        self.reports: list[Report] = []
        #: Reports without a number, sent after the numbered ones.
        self.notes: list[Report] = []
        #: Send the outbox again from this number on; 0: no.
        self.repeat_from = 0
        self.hello_due = self.ask_all_due = False

    @property
    def free(self) -> int:
        """Dispatches that may be on their way at once, beside what is held."""
        if self.leaving or self.outbox.full:
            return 0
        counts = self.counts
        bound = counts[Stage.RUNNING] + counts[Stage.QUEUED] + counts[Stage.FETCHING]
        slots = self.settings.slots
        return slots + slots * self.pace.ahead - bound - counts[Stage.RESUMING]

    def has_slot(self, *, light: bool) -> bool:
        """Say whether one more attempt may run."""
        sharers = self.pace.sharers
        lights = self.light_running + light
        whole = self.counts[Stage.RUNNING] - self.light_running + (not light)
        return whole + -(-lights // sharers) <= self.settings.slots

    def hold(self, attempt: HeldAttempt) -> bytes | None:
        """Take in an attempt, and return the token of the one of its action before it."""
        self.counts[attempt.stage] += 1
        self.held[attempt.token] = attempt
        key = (attempt.work.run, attempt.work.id)
        older = self.current.get(key)
        self.current[key] = attempt.token
        return older

    def report(self, item: Report, now_ns: int) -> None:
        """Send `item` up with a number, and keep it until it is acknowledged."""
        self.outbox.append(item, now_ns)
        self.reports.append(item)

    def tell(self, member: CrewMember, message: ToWorker) -> None:
        """Say `message` to a worker, or keep it until the worker is ready."""
        if not member.ready:
            member.waiting.append(message)
            return
        messages = self.messages.get(member.key)
        if messages is None:
            self.messages[member.key] = [message]
        else:
            messages.append(message)

    def move(self, attempt: HeldAttempt, stage: int, now_ns: int) -> None:
        """Change the stage of an attempt and every count that follows from it."""
        before = attempt.stage
        self.counts[before] -= 1
        self.counts[stage] += 1
        attempt.stage = stage
        if before == Stage.RUNNING:
            self.slot_freed_ns = now_ns
            self.light_running -= attempt.light
            self.crew.members[attempt.worker].running -= 1
        elif stage == Stage.RUNNING:
            self.light_running += attempt.light
            self.crew.members[attempt.worker].running += 1
        if attempt.alone:
            self.crew.parked_alone += (stage == Stage.PARKED) - (before == Stage.PARKED)

    def finish(self, attempt: HeldAttempt, item: Report | None, now_ns: int) -> None:
        """End `attempt` here, and report `item` unless its end is decided elsewhere."""
        token = attempt.token
        self.move(attempt, Stage.OVER, now_ns)
        self.counts[Stage.OVER] = 0
        del self.held[token]
        work = attempt.work
        key = (work.run, work.id)
        if self.current.get(key) == token:
            del self.current[key]
        self.fresh_starts.pop(token, None)
        self.fresh_parks.pop(token, None)
        self.stopping.pop(token, None)
        self.over[token] = (work.run, work.action)
        self._over_order.append(token)
        if len(self._over_order) > OVER_MAX:
            oldest = self._over_order.popleft()
            del self.over[oldest]
            self.unplaced.pop(oldest, None)
        if item is not None and not attempt.muted:
            self.report(item, now_ns)
        if attempt.worker:
            self._leave_worker(self.crew.members[attempt.worker], token, now_ns)
        if self.successors:
            self._admit_successor(token, now_ns)

    def kill(self, member: CrewMember, why: str) -> None:
        """End a worker's process; whoever is still in it is reported at its exit."""
        if not member.killed:
            self.crew.retire(member, why)
            self.draining.pop(member.key, None)
            self.effects.append(KillWorker(member.key, why))

    def dismiss(self, member: CrewMember, why: str, now_ns: int) -> None:
        """Let a worker without attempts end by itself: it flushes what was printed."""
        if not member.killed:
            self.crew.retire(member, why)
            self.dismissed[member.key] = now_ns
            self.tell(member, Drain())

    def enqueue(self, attempt: HeldAttempt, now_ns: int) -> None:
        """Let `attempt` wait for a slot."""
        attempt.queued_ns = now_ns
        self.move(attempt, Stage.QUEUED, now_ns)
        self.queue.append(attempt)

    def _leave_worker(self, member: CrewMember, token: bytes, now_ns: int) -> None:
        del member.held[token]
        if member.held:
            return
        member.idle_since_ns = now_ns
        if member.draining:
            self.kill(member, "what is left in it cannot be cancelled")
        elif member.alone:
            self.dismiss(member, "its attempt is over", now_ns)

    def _admit_successor(self, token: bytes, now_ns: int) -> None:
        successor = self.successors.pop(token, None)
        if successor is None or successor.stage != Stage.FETCHING:
            return
        bundle = successor.work.bundle
        if not bundle or bundle in self.bundles:
            self.enqueue(successor, now_ns)


def failed(attempt: HeldAttempt, error: ErrorRecord) -> Failed:
    """Return the report of an attempt that the agent itself found to have failed."""
    work = attempt.work
    return Failed(
        work.run,
        work.action,
        work.token,
        error,
        worker=attempt.worker,
        started_ns=attempt.started_ns,
    )


def suspect_of(work: Work) -> Suspect:
    """Return what makes this work the same as another one that crashed."""
    inputs = work.inputs
    if inputs is None:
        return work.task.identity, b""
    content = inputs.content if isinstance(inputs, Inline) else inputs.digest
    return work.task.identity, content
