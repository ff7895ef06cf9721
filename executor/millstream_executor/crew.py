"""Which worker processes the agent has, and which of them an attempt goes to."""

from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from millstream_events.values import (
    WORKER_ALONE,
    WORKER_ASYNC,
    WORKER_THREAD,
    Reuse,
    SecretRef,
)
from millstream_executor.link import ToWorker

#: A worker without attempts is stopped after this long.
IDLE_NS_MAX: Final = 300_000_000_000
#: Names of worker kinds in the keys of workers, which people see.
_KIND_NAMES: Final = {WORKER_ASYNC: "async", WORKER_THREAD: "thread", WORKER_ALONE: "alone"}


class WorkClass(NamedTuple):
    """What workers are made for: those of one class are interchangeable."""

    #: Digest of the code.
    bundle: bytes
    kind: int
    env_vars: tuple[tuple[str, str], ...]
    #: Digest of the environment's plan.
    image: bytes = b""
    #: The workers are kept by this policy; None: any attempt of the class may start one.
    reuse: Reuse | None = None
    #: Run that has the workers for itself; empty: all runs share them.
    run: str = ""
    #: Of kept workers: what the environment asks for.
    secrets: tuple[SecretRef, ...] = ()
    memory_max_bytes: int = 0


class Choice(Enum):
    """What `pick_kept` says when it names no worker."""

    START = "start"
    FULL = "full"


Picked: TypeAlias = "CrewMember | Literal[Choice.START, Choice.FULL]"


class CrewMember(msgspec.Struct, kw_only=True):
    """One worker process."""

    key: str
    work_class: WorkClass
    #: Runs one attempt and ends with it.
    alone: bool
    ready: bool = False
    pid: int = 0
    #: Takes no new attempts: one that cannot be cancelled lives on in it.
    draining: bool = False
    #: Why it was killed; empty: it was not.
    killed: str = ""
    #: Tokens of the attempts in it, in the order in which they came.
    held: dict[bytes, None] = {}
    #: How many of them have a slot.
    running: int = 0
    #: Said before it was ready.
    waiting: list[ToWorker] = []
    idle_since_ns: int = 0
    #: When the oldest unanswered `Ping` was sent; 0: none is open.
    pinged_ns: int = 0
    ponged_ns: int = 0


class Crew:
    """All worker processes of the agent, by key and by class."""

    def __init__(self, *, class_max: int, processes_max: int) -> None:
        self._class_max = class_max
        self._processes_max = processes_max
        self.members: dict[str, CrewMember] = {}
        self._classes: dict[WorkClass, list[CrewMember]] = {}
        self._drawn = 0
        self._killed = 0
        #: Alone workers whose attempt is parked: bounded apart, since they cost only memory.
        self.parked_alone = 0

    @property
    def active(self) -> int:
        """Processes that count against the bound."""
        return len(self.members) - self._killed - self.parked_alone

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that are ready."""
        return tuple(member.pid for member in self.members.values() if member.pid)

    def pick(self, work_class: WorkClass) -> CrewMember | None:
        """Return the shared worker that a new attempt of `work_class` should go to.

        None: start one, all there are have attempts with a slot and more are allowed.
        """
        members = self._classes.get(work_class)
        if not members:
            return None
        best: CrewMember | None = None
        open_count = 0
        for member in members:
            if member.draining:
                continue
            if not member.running:
                return member
            open_count += 1
            if best is None or member.running < best.running:
                best = member
        return best if open_count >= self._class_max else None

    def pick_kept(self, work_class: WorkClass) -> Picked:
        """Return the kept worker that a new attempt should go to, or what to do instead.

        Workers there are before new ones, so that their state is used; no more attempts in one
        than its policy allows.
        """
        reuse = work_class.reuse
        assert reuse is not None, work_class
        members = [m for m in self._classes.get(work_class, ()) if not m.draining]
        idle = next((m for m in members if not m.running), None)
        if idle is not None:
            return idle
        if len(members) < reuse.replicas_min:
            return Choice.START
        least = min(members, key=lambda member: member.running, default=None)
        if least is not None and least.running < reuse.concurrency:
            return least
        return Choice.START if len(members) < reuse.replicas_max else Choice.FULL

    def pick_busy(self, work_class: WorkClass) -> CrewMember | None:
        """Return the least loaded shared worker of `work_class`, however loaded it is."""
        members = [m for m in self._classes.get(work_class, ()) if not m.draining]
        return min(members, key=lambda member: member.running, default=None)

    def add(self, work_class: WorkClass, *, alone: bool, now_ns: int) -> CrewMember | None:
        """Return a new worker to be started; None: there is no room (see `oldest_idle`)."""
        if self.active >= self._processes_max:
            return None
        self._drawn += 1
        name = work_class.bundle[:4].hex() or "plain"
        kind = "kept" if work_class.reuse else _KIND_NAMES.get(work_class.kind, "worker")
        member = CrewMember(
            key=f"{name}-{kind}-{self._drawn}",
            work_class=work_class,
            alone=alone,
            idle_since_ns=now_ns,
        )
        self.members[member.key] = member
        if not alone:
            self._classes.setdefault(work_class, []).append(member)
        return member

    def oldest_idle(self) -> CrewMember | None:
        """Return the worker that has been without attempts for longest."""
        idle = [m for m in self.members.values() if not m.held and not m.killed]
        return min(idle, key=lambda member: member.idle_since_ns, default=None)

    def overdue(self, now_ns: int) -> list[CrewMember]:
        """Return the workers that have been without attempts for too long."""
        found: list[CrewMember] = []
        for work_class, members in self._classes.items():
            if work_class.reuse is not None:
                found += _overdue_kept(work_class.reuse, members, now_ns)
        return found + [
            member
            for member in self.members.values()
            if not member.held
            and not member.killed
            and member.work_class.reuse is None
            and now_ns - member.idle_since_ns > IDLE_NS_MAX
        ]

    def retire(self, member: CrewMember, why: str) -> None:
        """Take `member` out of service: it is being killed, and its exit will be reported."""
        assert not member.killed, member.key
        member.killed = why
        self._killed += 1
        self._leave_class(member)

    def remove(self, key: str) -> CrewMember | None:
        """Forget a worker whose process is gone; None: it is not one of ours."""
        member = self.members.pop(key, None)
        if member is None:
            return None
        if member.killed:
            self._killed -= 1
        else:
            self._leave_class(member)
        return member

    def _leave_class(self, member: CrewMember) -> None:
        members = self._classes.get(member.work_class)
        if members is not None and member in members:
            members.remove(member)
            if not members:
                del self._classes[member.work_class]


def _overdue_kept(reuse: Reuse, members: list[CrewMember], now_ns: int) -> list[CrewMember]:
    """Return the workers of one policy that have been idle for longer than it allows."""
    idle = [member for member in members if not member.held]
    latest_ns = max((member.idle_since_ns for member in idle), default=0)
    if len(idle) == len(members) and now_ns - latest_ns > reuse.idle_ms * 1_000_000:
        return idle
    spare = len(members) - reuse.replicas_min
    limit_ns = reuse.scaledown_ms * 1_000_000
    late = [member for member in idle if now_ns - member.idle_since_ns > limit_ns]
    return late[: max(spare, 0)]
