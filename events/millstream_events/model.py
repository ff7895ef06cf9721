"""The facts that Millstream records (design: architecture.md 1.3).

Append-only: never rename or reuse a tag, never retype or move a field. A new field goes last
and has a default; anything else is a new tag. `codec` holds the upcasts of retired tags.

An event says what happened, in the past tense. It is written by the leader of the shard alone,
inside a `Frame`: all events of one run that one tick of the leader decided.
"""

from typing import Final, TypeAlias

import msgspec

from millstream_events.artifacts import ArtifactSpec
from millstream_events.conditions import ConditionExtras
from millstream_events.deployed import Firing
from millstream_events.facts import Fact as _Fact
from millstream_events.facts import GraphStarted as GraphStarted
from millstream_events.facts import GraphSucceeded as GraphSucceeded
from millstream_events.model_registered import ArtifactDeclared as ArtifactDeclared
from millstream_events.model_registered import ArtifactPublished as ArtifactPublished
from millstream_events.model_registered import TaskDeployed as TaskDeployed
from millstream_events.model_registered import TriggerDeployed as TriggerDeployed
from millstream_events.model_registered import TriggerSwitched as TriggerSwitched
from millstream_events.values import ErrorRecord, Items, Origin, Policy, TaskRef, Usage, Value

#: A frame never holds more: a larger tick makes several frames of the same run.
FRAME_EVENTS_MAX: Final = 512
FRAME_BYTES_MAX: Final = 256 * 1024
FRAME_FORMAT: Final = 1
CHAIN_START: Final = bytes(16)


class RunCreated(_Fact, frozen=True, array_like=True, tag=1):
    """A run was accepted; its root action (ordinal 0) exists from here on."""

    run: str = ""
    project: str = ""
    domain: str = ""
    #: Alias, unique inside the project, or empty.
    name: str = ""
    task: TaskRef = TaskRef("")
    inputs: Value | None = None
    policy: Policy | None = None
    #: Digest of the code bundle, or empty for code that is importable everywhere.
    bundle: bytes = b""
    #: Hash of what was asked for: the same name with another body is refused.
    body: bytes = b""
    labels: tuple[tuple[str, str], ...] = ()
    who: str = ""
    parent_run: str = ""
    origin: Origin | None = None
    #: Whole run, from this event; 0: no limit.
    deadline_ms: int = 0
    cache_mode: int = 0
    cache_key: bytes = b""
    #: Strings that every action of the run sees (`custom_context`).
    context: tuple[tuple[str, str], ...] = ()
    #: Run-wide settings by name, sorted; see `state.RunState.setting`.
    settings: tuple[tuple[str, str], ...] = ()
    #: A trigger started it; moves the trigger's clock in the same event, so none fires twice.
    fired: Firing | None = None
    #: Of the root, one of `ACTION_KINDS`; empty: a task.
    kind: str = ""


class RunPaused(_Fact, frozen=True, array_like=True, tag=2):
    """Nothing more of the run is dispatched; what runs goes on."""

    who: str = ""
    why: str = ""


class RunResumed(_Fact, frozen=True, array_like=True, tag=3):
    """The run is dispatched again."""

    who: str = ""
    why: str = ""


class RunAbortRequested(_Fact, frozen=True, array_like=True, tag=4):
    """The whole run is to end: no new action, no dispatch and no success from here on."""

    who: str = ""
    why: str = ""
    #: True: the run's own deadline asked, so it ends TIMED_OUT.
    timed_out: bool = False


class RunFinished(_Fact, frozen=True, array_like=True, tag=5):
    """The run is over, with its root's outcome; nothing is open any more."""

    #: One of `Phase`: SUCCEEDED, FAILED, ABORTED or TIMED_OUT.
    phase: str = ""
    output: Value | None = None
    error: ErrorRecord | None = None


class RunAnnotated(_Fact, frozen=True, array_like=True, tag=6):
    """Notes were attached to the run, or an attempt left a value behind, by the entry's key."""

    entries: tuple[tuple[str, str], ...] = ()
    who: str = ""
    value: Value | None = None


class ActionRequested(_Fact, frozen=True, array_like=True, tag=10):
    """A parent attempt called a task; `action` is the next free ordinal of the run."""

    id: bytes = b""
    parent: int = 0
    #: One of `ACTION_KINDS`.
    kind: str = "task"
    task: TaskRef = TaskRef("")
    inputs: Value | None = None
    inputs_hash: bytes = b""
    group: str = ""
    #: Count of identical calls by the parent before this one (part of `id`).
    k: int = 0
    policy: Policy | None = None
    #: Empty: not cached.
    cache_key: bytes = b""
    #: One of `values.CACHE_MODES`.
    cache_mode: int = 0
    #: Of kind map: for how many items the task is called; 0: of another kind.
    items: int = 0
    #: 1-based number of the parent's plan's node that it is; 0: an attempt called it.
    node: int = 0


class ActionHeld(_Fact, frozen=True, array_like=True, tag=11):
    """The action cannot be dispatched now; `reason` is shown to the user as it stands."""

    #: limit, cache, pool, paused or quota.
    why: str = ""
    reason: str = ""


class CacheHit(_Fact, frozen=True, array_like=True, tag=12):
    """An earlier success with the same key is this action's outcome."""

    key: bytes = b""
    source_run: str = ""
    source_action: int = 0
    output: Value | None = None


class ActionRecovered(_Fact, frozen=True, array_like=True, tag=13):
    """The outcome was taken over from the run that this one recovers."""

    source_run: str = ""
    source_action: int = 0
    output: Value | None = None
    items: Items | None = None


class AttemptDispatched(_Fact, frozen=True, array_like=True, tag=14):
    """An attempt was given to an agent; the token is the only one that may report on it."""

    pool: str = ""
    agent: str = ""
    token: bytes = b""
    #: Generation of the agent's introduction (`Hello`) that the dispatch answers to.
    generation: int = 0


class AttemptStarted(_Fact, frozen=True, array_like=True, tag=15):
    """User code runs; written only for an attempt that lives for more than 50 ms."""

    token: bytes = b""
    worker: str = ""
    pid: int = 0
    started_ns: int = 0


class AttemptSucceeded(_Fact, frozen=True, array_like=True, tag=16):
    """The attempt returned, and with it the action succeeded."""

    token: bytes = b""
    output: Value | None = None
    worker: str = ""
    started_ns: int = 0
    ended_ns: int = 0
    usage: Usage | None = None
    #: Of kind map: how its items ended.
    items: Items | None = None
    #: Outputs that are to be published as artifacts.
    produced: tuple[ArtifactSpec, ...] = ()


class AttemptFailed(_Fact, frozen=True, array_like=True, tag=17):
    """The attempt ended with an error; what comes next is another event."""

    token: bytes = b""
    error: ErrorRecord = ErrorRecord("user", "", "")
    worker: str = ""
    started_ns: int = 0
    ended_ns: int = 0
    usage: Usage | None = None


class AttemptLost(_Fact, frozen=True, array_like=True, tag=18):
    """Nobody will report on this attempt: its worker, agent or pool is gone."""

    token: bytes = b""
    #: worker-crashed, agent-restarted, agent-silent, nack, not-adopted.
    why: str = ""
    #: Silence measured on the leader's own monotonic clock, and the limit in force; ms.
    silence_ms: int = 0
    limit_ms: int = 0
    figures: tuple[tuple[str, int], ...] = ()


class AttemptParked(_Fact, frozen=True, array_like=True, tag=19):
    """The attempt waits for children and holds no slot."""

    token: bytes = b""


class AttemptEvicted(_Fact, frozen=True, array_like=True, tag=20):
    """A parked attempt was removed from memory; it comes back with its journal."""

    token: bytes = b""
    rss_bytes: int = 0


class RetryScheduled(_Fact, frozen=True, array_like=True, tag=21):
    """The next attempt was decided; `attempt` is its number."""

    #: Unix time; 0: at once.
    due_ms: int = 0
    #: user, system or timeout: the budget that pays.
    budget: str = "user"


class ActionFinished(_Fact, frozen=True, array_like=True, tag=22):
    """The action ended without success; a success needs no extra event."""

    #: FAILED, TIMED_OUT, ABORTED or SKIPPED.
    phase: str = ""
    error: ErrorRecord | None = None


class ActionAbortRequested(_Fact, frozen=True, array_like=True, tag=23):
    """The action and all below it are to end."""

    who: str = ""
    #: user, parent-ended, parent-aborted, run-aborted or cancelled.
    why: str = ""
    reason: str = ""
    #: Ends TIMED_OUT instead of ABORTED: the action's own deadline asked.
    timed_out: bool = False


class TraceRecorded(_Fact, frozen=True, array_like=True, tag=24):
    """A `trace` step of the parent attempt ended; `action` is the step's own ordinal."""

    id: bytes = b""
    parent: int = 0
    #: Token of the parent attempt that ran the step.
    token: bytes = b""
    name: str = ""
    inputs_hash: bytes = b""
    output: Value | None = None
    error: ErrorRecord | None = None
    started_ns: int = 0
    ended_ns: int = 0


class ConditionOpened(_Fact, frozen=True, array_like=True, tag=25):
    """A parent waits for somebody's answer; `action` is the condition's own ordinal."""

    id: bytes = b""
    parent: int = 0
    name: str = ""
    type: str = "bool"
    prompt: str = ""
    #: Unix time; 0: waits for ever.
    due_ms: int = 0
    webhook: str = ""
    extras: ConditionExtras | None = None


class ConditionSignalled(_Fact, frozen=True, array_like=True, tag=26):
    """The answer came."""

    value: Value | None = None
    who: str = ""


class TimerSet(_Fact, frozen=True, array_like=True, tag=27):
    """A parent sleeps durably; `action` is the timer's own ordinal."""

    id: bytes = b""
    parent: int = 0
    due_ms: int = 0


class TimerFired(_Fact, frozen=True, array_like=True, tag=28):
    """A time came: of a timer action, a backoff or a limit."""

    #: timer, backoff, queued, runtime, deadline, run-deadline, condition or grace.
    what: str = "timer"
    due_ms: int = 0


class GroupOpened(_Fact, frozen=True, array_like=True, tag=29):
    """A parent opened a display group."""

    name: str = ""
    outer: str = ""


class GroupClosed(_Fact, frozen=True, array_like=True, tag=30):
    """A parent closed a display group."""

    name: str = ""


class DivergenceDetected(_Fact, frozen=True, array_like=True, tag=31):
    """A replayed parent asked for something else than its former attempt did."""

    expected: tuple[bytes, ...] = ()
    requested: bytes = b""
    policy: str = "warn"


class ChildRunLinked(_Fact, frozen=True, array_like=True, tag=32):
    """An action of kind childrun has its run."""

    run: str = ""


class ChildRunFinished(_Fact, frozen=True, array_like=True, tag=33):
    """The run behind an action of kind childrun ended."""

    phase: str = ""
    output: Value | None = None
    error: ErrorRecord | None = None


class StreamItem(_Fact, frozen=True, array_like=True, tag=34):
    """A generator task yielded."""

    token: bytes = b""
    index: int = 0
    item: Value | None = None


class AttemptReturned(_Fact, frozen=True, array_like=True, tag=35):
    """The agent never started this dispatch: the same attempt is ready again, at no cost."""

    token: bytes = b""
    #: busy, draining, memory, unknown-bundle, unknown-environment, old-epoch or never-arrived.
    why: str = ""


class CacheReserved(_Fact, frozen=True, array_like=True, tag=36):
    """The action computes the key, until its terminal event; others with the key wait for it."""

    #: `state.flight_key` of the cache key.
    key: bytes = b""
    revision: int = 0


class LeaderElected(_Fact, frozen=True, array_like=True, tag=50):
    """A leader took over: every frame of a lower epoch that comes later is void."""

    epoch: int = 0
    node: str = ""
    build: str = ""
    features: tuple[str, ...] = ()


class SnapshotTaken(_Fact, frozen=True, array_like=True, tag=51):
    """A snapshot exists; replay up to `seq` must reproduce `state_hash`."""

    seq: int = 0
    state_hash: bytes = b""
    uri: str = ""


class ConfigApplied(_Fact, frozen=True, array_like=True, tag=52):
    """The settings that decisions depend on, so that a replay decides alike."""

    version: int = 0
    settings: tuple[tuple[str, int], ...] = ()


class PoolSeen(_Fact, frozen=True, array_like=True, tag=53):
    """An agent of this shape joined the pool."""

    pool: str = ""
    agent: str = ""
    region: str = ""
    cluster: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    slots: int = 0
    incarnation: str = ""


class PoolLost(_Fact, frozen=True, array_like=True, tag=54):
    """The pool's last agent is gone."""

    pool: str = ""
    agent: str = ""
    why: str = ""


class PoolDrained(_Fact, frozen=True, array_like=True, tag=55):
    """The agent left on purpose, with nothing running."""

    pool: str = ""
    agent: str = ""


class InboxConsumed(_Fact, frozen=True, array_like=True, tag=56):
    """A durable inbox message was taken over: exactly once, by its sequence."""

    seq: int = 0


class FeatureBarrier(_Fact, frozen=True, array_like=True, tag=60):
    """From here on the fold follows a changed rule."""

    feature: str = ""
    on: bool = True


class CommandRejected(_Fact, frozen=True, array_like=True, tag=61):
    """A command was refused; kept for audit."""

    command: bytes = b""
    code: str = ""
    by: str = ""
    reason: str = ""


class RunArchived(_Fact, frozen=True, array_like=True, tag=62):
    """The run's frames were copied elsewhere and may be purged here."""

    run: str = ""
    uri: str = ""
    digest: bytes = b""
    rev: int = 0


RunEvent: TypeAlias = (
    RunCreated | RunPaused | RunResumed | RunAbortRequested | RunFinished | RunAnnotated
)
ActionEvent: TypeAlias = (
    ActionRequested | ActionHeld | CacheHit | ActionRecovered | AttemptDispatched
    | AttemptStarted | AttemptSucceeded | AttemptFailed | AttemptLost | AttemptParked
    | AttemptEvicted | RetryScheduled | ActionFinished | ActionAbortRequested | TraceRecorded
    | ConditionOpened | ConditionSignalled | TimerSet | TimerFired | GroupOpened | GroupClosed
    | DivergenceDetected | ChildRunLinked | ChildRunFinished | StreamItem | AttemptReturned
    | CacheReserved | GraphStarted | GraphSucceeded
)  # fmt: skip
ShardEvent: TypeAlias = (
    LeaderElected | SnapshotTaken | ConfigApplied | PoolSeen | PoolLost | PoolDrained | RunArchived
    | InboxConsumed | FeatureBarrier | CommandRejected | TaskDeployed | TriggerDeployed
    | TriggerSwitched | ArtifactPublished | ArtifactDeclared
)  # fmt: skip
Event: TypeAlias = RunEvent | ActionEvent | ShardEvent
ACTION_KINDS: Final = ("task", "trace", "condition", "timer", "map", "graph", "childrun")


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One message of the log: all events of one run that one tick decided."""

    format: int
    #: Epoch of the leader that wrote it.
    epoch: int
    #: Number within the epoch, from 1; resolves lost acknowledgements.
    number: int
    #: The leader's hybrid clock; never decreases within a shard. Readers order by sequence.
    ts_ns: int
    #: Revision of the first event; the others follow without a gap.
    rev: int
    #: `chain_hash` of this run's frame before, or 16 zero bytes.
    prev: bytes
    events: tuple[Event, ...]
