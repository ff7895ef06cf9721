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
from millstream_events.values import UNSAID, Capacity, ErrorRecord, Inline
from millstream_executor.credit import CreditLine, Pace
from millstream_executor.crew import Crew, CrewMember, WorkClass
from millstream_executor.effects import Effect, EnvironmentReady, KillWorker
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
    capacity: Capacity = UNSAID


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
        self._open_environments()
        self._open_outgoing()

    def _open_environments(self) -> None:
        """Set up what is known of environments, and of workers that stay."""
        self.environments: dict[bytes, EnvironmentReady] = {}
        #: Attempts that wait for an environment to be built.
        self.building: dict[bytes, list[HeldAttempt]] = {}
        #: Attempts that have a slot in kept workers, by class.
        self.kept_running: dict[WorkClass, int] = {}
        #: Attempts that wait for room in kept workers; their stage is QUEUED.
        self.kept_waiting: dict[WorkClass, deque[HeldAttempt]] = {}
        #: Until then, no dispatch is granted on the strength of room in kept workers.
        self.settle_until_ns = 0
        self.settling = False

    def _open_outgoing(self) -> None:
        """Set up what `take` hands out."""
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
        if self.building or self.kept_waiting:
            # What waits for something else than a slot leaves slots to others, within a bound.
            bound -= min(self._elsewhere(), slots)
        if self.kept_running:
            bound -= self._room_in_kept()
        return slots + slots * self.pace.ahead - bound - counts[Stage.RESUMING]

    def has_slot(self, *, light: bool, kept: WorkClass | None = None) -> bool:
        """Say whether one more attempt may run.

        A kept worker takes one slot, however many attempts it runs at once.
        """
        sharers = self.pace.sharers
        lights = self.light_running + light
        classes = self.kept_running
        whole = self.counts[Stage.RUNNING] - self.light_running
        if kept is not None:
            classes = {**classes, kept: classes.get(kept, 0) + 1}
        elif not light:
            whole += 1
        if classes:
            workers = sum(map(_workers_of, classes, classes.values()))
            whole += workers - sum(self.kept_running.values())
        return whole + -(-lights // sharers) <= self.settings.slots

    def hold(self, attempt: HeldAttempt) -> bytes | None:
        """Take in an attempt, and return the token of the one of its action before it."""
        self.counts[attempt.stage] += 1
        self.held[attempt.token] = attempt
        key = (attempt.work.run, attempt.work.id)
        older = self.current.get(key)
        self.current[key] = attempt.token
        return older

    def _elsewhere(self) -> int:
        """Return how many attempts wait for an environment, or for a kept worker."""
        waiting = sum(map(len, self.building.values()))
        return waiting + sum(map(len, self.kept_waiting.values()))

    def _room_in_kept(self) -> int:
        """Return how many attempts in kept workers take no slot of their own, and one more.

        One at a time is granted beyond them: dispatches are for any class, and one that finds
        no slot goes back to the leader.
        """
        extra = room = 0
        for work_class, running in self.kept_running.items():
            workers = _workers_of(work_class, running)
            extra += running - workers
            assert work_class.reuse is not None, work_class
            room |= running < workers * work_class.reuse.concurrency
        return extra + (room and not self.settling)

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
            if attempt.kept is not None:
                self._move_kept(attempt.kept, -1)
        elif stage == Stage.RUNNING:
            attempt.slot_ns = now_ns
            self.light_running += attempt.light
            self.crew.members[attempt.worker].running += 1
            if attempt.kept is not None:
                self._move_kept(attempt.kept, 1)
        if attempt.alone:
            self.crew.parked_alone += (stage == Stage.PARKED) - (before == Stage.PARKED)

    def _move_kept(self, work_class: WorkClass, delta: int) -> None:
        running = self.kept_running.get(work_class, 0) + delta
        if running:
            self.kept_running[work_class] = running
        else:
            del self.kept_running[work_class]

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

    def is_prepared(self, attempt: HeldAttempt) -> bool:
        """Say whether nothing that the attempt needs before a slot is missing."""
        work = attempt.work
        image = image_of(work)
        return (
            (not work.bundle or work.bundle in self.bundles)
            and (not image or image in self.environments)
            and attempt.after not in self.held
        )

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
        if self.is_prepared(successor):
            self.enqueue(successor, now_ns)


def image_of(work: Work) -> bytes:
    """Return the digest of the environment that `work` runs in; empty: the agent's own."""
    policy = work.policy
    return policy.needs.image if policy is not None and policy.needs is not None else b""


def _workers_of(work_class: WorkClass, running: int) -> int:
    """Return how many kept workers of a class `running` attempts fill."""
    assert work_class.reuse is not None, work_class
    return -(-running // work_class.reuse.concurrency)


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
