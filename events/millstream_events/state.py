"""The folded state: what a shard, its runs and their actions are after a prefix of the log.

Mutable structs, changed by `fold.apply` alone; everybody else reads. They are array-like, so a
snapshot is their encoding, and `state_hash` is a hash of it. Fields that only people look at
(times, worker names) are part of the state too: a replay must reproduce them exactly, because
they come from the log, never from a clock.
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Final, NamedTuple

import msgspec

from millstream_events.artifacts import ArtifactVersion, PartitionKeys
from millstream_events.deployed import DeployedTask, DeployedTrigger, Firing
from millstream_events.model import CHAIN_START
from millstream_events.phases import PHASE_OF, Phase, State
from millstream_events.values import (
    DEFAULT_POLICY,
    ErrorRecord,
    Items,
    Origin,
    Policy,
    TaskRef,
    Usage,
    Value,
)


class AttemptRecord(msgspec.Struct, array_like=True, gc=False):
    """An attempt that ended without success; the current one is in `ActionState`."""

    attempt: int
    #: failed, lost, evicted or returned.
    outcome: str
    pool: str
    agent: str
    worker: str
    dispatched_ns: int
    started_ns: int
    ended_ns: int
    error: ErrorRecord | None = None
    why: str = ""


class Asked(NamedTuple):
    """What a condition asks for, as `ActionState.condition` holds it."""

    name: str
    #: bool, int, float or str.
    type: str
    prompt: str
    #: URL, or empty.
    webhook: str
    prompt_type: str = "text"
    description: str = ""
    payload: str = ""


# What most actions have none of: one for all of them, so the fold puts a new one in its place.
_NO_CHILDREN: Final = repeat(list[int]())
_NO_HISTORY: Final = repeat(list[AttemptRecord]())
_NOTHING_KEPT: Final = repeat(dict[str, Value]())


# There may be millions, and none leads back to itself: the garbage collector need not look.
class ActionState(msgspec.Struct, array_like=True, gc=False):
    """One task call (or trace, timer, condition) of a run."""

    id: bytes
    #: Ordinal of the caller; the root (ordinal 0) is its own.
    parent: int
    kind: str
    task: TaskRef
    inputs: Value | None
    state: int = State.READY
    inputs_hash: bytes = b""
    group: str = ""
    k: int = 0
    policy: Policy | None = None
    cache_key: bytes = b""
    cache_mode: int = 0
    #: Number of the current attempt, or of the next one while READY, HELD or BACKOFF.
    attempt: int = 1
    #: Token of the current dispatch; empty iff no attempt may report.
    token: bytes = b""
    pool: str = ""
    agent: str = ""
    generation: int = 0
    worker: str = ""
    pid: int = 0
    parked: bool = False
    #: The action was parked away and comes back under the same attempt number.
    evicted: bool = False
    user_failures: int = 0
    system_failures: int = 0
    #: When a backoff, timer or condition is due; Unix ms, 0: never.
    due_ms: int = 0
    why_held: str = ""
    held: str = ""
    cached: bool = False
    #: Run and action that a cached or recovered outcome comes from.
    source_run: str = ""
    source_action: int = 0
    #: The abort ends it TIMED_OUT: its own deadline asked.
    abort_timed_out: bool = False
    abort_why: str = ""
    abort_who: str = ""
    abort_reason: str = ""
    output: Value | None = None
    error: ErrorRecord | None = None
    #: A success that came after an abort or from a superseded attempt (rules F6, F7).
    discarded: Value | None = None
    usage: Usage | None = None
    requested_ns: int = 0
    #: When it last became READY: what the queue limit counts from.
    ready_ns: int = 0
    dispatched_ns: int = 0
    started_ns: int = 0
    ended_ns: int = 0
    #: Revision of the event that ended it, 0 while open.
    ended_rev: int = 0
    #: Revision of the last event that took effect: what the next one cites as its cause.
    last_rev: int = 0
    #: Ordinals, ascending.
    children: list[int] = msgspec.field(default_factory=_NO_CHILDREN.__next__)
    #: iff-count of children that are not terminal.
    open_children: int = 0
    history: Sequence[AttemptRecord] = msgspec.field(default_factory=_NO_HISTORY.__next__)
    #: The texts of `Asked`, of which a condition of an older log has the first four alone.
    condition: tuple[str, ...] | None = None
    child_run: str = ""
    streamed: int = 0
    #: What its attempts left behind: their reports, and the last checkpoint.
    kept: Mapping[str, Value] = msgspec.field(default_factory=_NOTHING_KEPT.__next__)
    #: Of kind map; counted at its end.
    items: Items | None = None
    #: 1-based number of the parent's plan's node that it is; 0: an attempt called it.
    node: int = 0

    @property
    def terminal(self) -> bool:
        """Whether nothing can change it any more."""
        return self.state >= State.SUCCEEDED

    @property
    def live(self) -> bool:
        """Whether an attempt may be running somewhere."""
        return bool(self.token)

    @property
    def asked(self) -> Asked:
        """What is asked for; of an action of kind condition only."""
        assert self.condition is not None, self.kind
        return Asked(*self.condition)

    @property
    def rules(self) -> Policy:
        """The policy in force."""
        return self.policy or DEFAULT_POLICY

    @property
    def phase(self) -> Phase:
        """What people see."""
        return PHASE_OF[State(self.state)]


class RunState(msgspec.Struct, array_like=True, gc=False):
    """One run."""

    id: str
    project: str = ""
    domain: str = ""
    name: str = ""
    who: str = ""
    bundle: bytes = b""
    body: bytes = b""
    labels: tuple[tuple[str, str], ...] = ()
    context: tuple[tuple[str, str], ...] = ()
    parent_run: str = ""
    origin: Origin | None = None
    deadline_ms: int = 0
    #: Revision of the last event; the next frame begins at `rev` + 1.
    rev: int = 0
    chain: bytes = CHAIN_START
    #: Empty while the run goes on; afterwards one of `Phase`.
    phase: str = ""
    paused: bool = False
    aborting: bool = False
    abort_timed_out: bool = False
    abort_who: str = ""
    abort_why: str = ""
    output: Value | None = None
    error: ErrorRecord | None = None
    created_ns: int = 0
    started_ns: int = 0
    ended_ns: int = 0
    #: Dense: `actions[n]` has ordinal n. Emptied by `collapse` after the run is over.
    actions: list[ActionState] = []
    ordinals: dict[bytes, int] = {}
    #: Actions that are not terminal.
    open_actions: int = 0
    #: Dispatched or running: what `in flight` limits count.
    live_actions: int = 0
    #: Terminal actions by outcome; TIMED_OUT counts as failed, SKIPPED as aborted.
    succeeded: int = 0
    failed: int = 0
    aborted: int = 0
    notes: tuple[tuple[str, str], ...] = ()
    #: Events that took no effect.
    voids: int = 0
    #: Why nothing may be decided for the run: a gap, a broken chain (rule F4) or a newer record.
    quarantine: str = ""
    #: Settings of the whole run that its client chose, by name.
    settings: tuple[tuple[str, str], ...] = ()
    #: The trigger that started it.
    fired: Firing | None = None

    def setting(self, name: str) -> str:
        """Return a setting of the whole run; empty when it was not given."""
        return next((value for key, value in self.settings if key == name), "")

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.phase != ""

    @property
    def decidable(self) -> bool:
        """Whether a leader may decide for it."""
        return self.phase == "" and self.quarantine == ""

    @property
    def shown_phase(self) -> str:
        """What people see."""
        if self.phase:
            return self.phase
        if self.paused:
            return Phase.PAUSED
        return Phase.RUNNING if self.started_ns else Phase.QUEUED


class CacheEntry(msgspec.Struct, array_like=True):
    """A success that later calls with the same key may take over."""

    run: str
    action: int
    output: Value | None
    stored_ns: int
    #: Of the run that computed it.
    project: str = ""
    domain: str = ""


class Flight(msgspec.Struct, array_like=True):
    """The action that computes a cache key while others with the same key wait for it."""

    run: str
    action: int
    #: Grows with each reservation of the shard.
    revision: int


class AgentRecord(msgspec.Struct, array_like=True):
    """An agent that the shard has seen; `present` until it is lost or drained."""

    pool: str
    region: str
    cluster: str
    labels: tuple[tuple[str, str], ...]
    slots: int
    incarnation: str
    present: bool = True


class DeployedVersion(msgspec.Struct, array_like=True):
    """A deployed version of a task, and when it came."""

    task: DeployedTask
    who: str
    deployed_ms: int


class TriggerState(msgspec.Struct, array_like=True):
    """A trigger, and where its clock stands."""

    trigger: DeployedTrigger
    active: bool
    deployed_ms: int
    #: When it became active, from which intervals count; Unix ms.
    since_ms: int
    #: Nothing that was due then or before fires any more; Unix ms.
    cursor_ms: int
    #: When it was due last, and the run that it started; 0: never.
    fired_ms: int = 0
    fired_run: str = ""


class ArtifactLine(msgspec.Struct, array_like=True):
    """All versions of one artifact."""

    #: Fixed by a declaration, or else by the first version.
    keys: PartitionKeys
    declared: bool = False
    #: By version; oldest first.
    versions: dict[str, ArtifactVersion] = {}


class Awaited(msgspec.Struct, array_like=True):
    """A run that a trigger is to start for a version of an artifact, and has not yet."""

    trigger: str
    version: ArtifactVersion


class ShardState(msgspec.Struct, array_like=True):
    """Everything that one shard's log says."""

    shard: str
    #: Stream sequence of the last frame folded.
    seq: int = 0
    epoch: int = 0
    #: Number of the last frame within the epoch.
    number: int = 0
    ts_ns: int = 0
    leader: str = ""
    #: Revision and chain of the shard's own frames.
    rev: int = 0
    chain: bytes = CHAIN_START
    runs: dict[str, RunState] = {}
    #: (project, alias) -> run.
    names: dict[str, str] = {}
    cache: dict[bytes, CacheEntry] = {}
    agents: dict[str, AgentRecord] = {}
    settings: dict[str, int] = {}
    config_version: int = 0
    features: list[str] = []
    inbox_seq: int = 0
    #: Commands refused, for audit only: a count.
    rejected: int = 0
    #: Frames that took no effect (rules F2, F3).
    void_frames: int = 0
    #: Why this version must not lead: an unknown shard event or feature.
    unknown: str = ""
    #: By `flight_key`: who computes it; ends with the action. Ask `owner_of`.
    flights: dict[bytes, Flight] = {}
    #: The highest revision of any reservation.
    flight_revision: int = 0
    #: By `deployed.task_key`; oldest version first.
    tasks: dict[str, list[DeployedVersion]] = {}
    #: By `deployed.trigger_key`.
    triggers: dict[str, TriggerState] = {}
    #: By `artifacts.artifact_key`; and how many versions there are of all of them.
    artifacts: dict[str, ArtifactLine] = {}
    artifact_versions: int = 0
    #: Outputs of actions that are to be published, by `fold_artifacts.unpublished_key`; and
    #: what triggers are to start, by `artifacts.firing_key`. Empty between two ticks.
    unpublished: dict[str, list[ArtifactVersion]] = {}
    firings: dict[str, Awaited] = {}


# Maps keep the order of the log, so plain encoding is canonical.
_canonical: Final = msgspec.msgpack.Encoder()


def run_hash(run: RunState) -> bytes:
    """Return the 16-byte hash of a run.

    Of a finished run only what `collapse` keeps counts, so that a leader that has let go of
    its actions agrees with a full replay.
    """
    # `ordinals` follows from the actions; and only keys that are strings can be put in order.
    actions = [] if run.finished else run.actions
    image = msgspec.structs.replace(run, actions=actions, ordinals={})
    return hashlib.blake2b(_canonical.encode(image), digest_size=16).digest()


def state_hash(shard: ShardState) -> bytes:
    """Return the 16-byte hash of everything that the log says, except its own position.

    The xor of the runs' hashes and of one over the shard's own fields, so that a snapshot
    recomputes only what changed.
    """
    # The frames of a tick go run by run, so what several runs add has no order of its own.
    image = msgspec.structs.replace(shard, runs={}, cache={}, flights={}, seq=0, number=0)
    flights = sorted(shard.flights.items())
    content = _canonical.encode((image, sorted(shard.cache.items()), flights))
    total = int.from_bytes(hashlib.blake2b(content, digest_size=16).digest())
    for run in shard.runs.values():
        total ^= int.from_bytes(run_hash(run))
    return total.to_bytes(16)


# What all runs share that have let go of their actions: a run that is over gets no more of them.
_NO_ACTIONS: Final[list[ActionState]] = []
_NO_ORDINALS: Final[dict[bytes, int]] = {}


def collapse(run: RunState) -> None:
    """Let go of a finished run's actions; the log still has them. `run_hash` stays the same."""
    assert run.finished, run.id
    run.actions, run.ordinals = _NO_ACTIONS, _NO_ORDINALS


def scoped_key(key: bytes, project: str, domain: str) -> bytes:
    """Return the cache key that only runs of this project and domain look under."""
    content = b"\0".join((key, project.encode(), domain.encode()))
    return hashlib.blake2b(content, digest_size=32).digest()


def flight_key(run: RunState, key: bytes) -> bytes:
    """Return the key under which an action of this run reserves the cache key `key`."""
    return scoped_key(key, run.project, run.domain) if is_scoped(run) else key


def is_scoped(run: RunState) -> bool:
    """Say whether the run takes only results of its own project and domain from the cache."""
    return run.setting("cache_scope") == "project-domain"


def owner_of(shard: ShardState, key: bytes) -> Flight | None:
    """Return who computes the flight key `key`, or None: nobody on whom one could wait."""
    flight = shard.flights.get(key)
    if flight is None:
        return None
    run = shard.runs.get(flight.run)
    if run is None or not run.decidable or flight.action >= len(run.actions):
        return None
    return None if run.actions[flight.action].terminal else flight


def name_key(project: str, name: str) -> str:
    """Return the key of an alias in `ShardState.names`."""
    return f"{project}\x00{name}"
