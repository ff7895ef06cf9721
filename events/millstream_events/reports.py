"""What pool agents report to the leader, and what the leader orders.

Upwards every item has a number, per incarnation of the agent. The leader acknowledges numbers
(`ToAgent.acked`) once the events behind them are durable; the agent keeps and repeats what is
not acknowledged. Calls made by running tasks travel the same way, so one acknowledgement
covers both, and a lost leader loses nothing.

Downwards nothing is numbered. Orders are recomputed from state: after a new epoch or a
reconnect the agent says `Hello` and asks again for the children it still waits for.
"""

from typing import Final, TypeAlias

import msgspec

from millstream_events.artifacts import ArtifactSpec
from millstream_events.conditions import ConditionExtras
from millstream_events.early import RunBegun, RunDeclined
from millstream_events.ids import DEFAULT_REGION
from millstream_events.values import Capacity, ErrorRecord, Items, Policy, TaskRef, Usage, Value

# ------------------------------------------------------------------ agent -> leader


#: Ordinal in reports of an attempt that began on its agent and was not `Adopted` yet.
UNKNOWN_ACTION: Final = -1


class Held(msgspec.Struct, frozen=True, array_like=True):
    """One attempt that the agent has, running or queued."""

    run: str
    action: int
    attempt: int
    token: bytes
    #: It began on the agent, and the call that tells of it is not acknowledged yet.
    eager: bool = False


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Introduce the agent: on joining, on every new epoch and after every reconnect.

    Not numbered (it opens the numbering). Work of an older `generation` that is still on
    its way is dropped by the agent, and the leader returns what is not in `holding`.
    """

    generation: int
    pool: str
    region: str
    cluster: str
    labels: tuple[tuple[str, str], ...]
    slots: int
    #: Dispatches that the leader may send under this generation; counted from 0.
    granted: int
    holding: tuple[Held, ...] = ()
    pid: int = 0
    memory_bytes: int = 0
    features: tuple[str, ...] = ()
    capacity: Capacity | None = None


class Credit(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Grant dispatches: `granted` only grows within a generation, so doubles do no harm.

    Sent at once when slots become free, and once a second as the heartbeat. Not numbered.
    """

    generation: int
    granted: int
    workers: tuple[int, ...] = ()


class Started(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The attempt has been running for more than 50 ms."""

    run: str
    action: int
    token: bytes
    worker: str
    pid: int
    started_ns: int


class Succeeded(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The attempt returned. A large output is in the blob store already."""

    run: str
    action: int
    token: bytes
    output: Value | None
    worker: str
    started_ns: int
    ended_ns: int
    usage: Usage | None = None
    #: Of kind map: how its items ended.
    items: Items | None = None
    #: Outputs that are to be published as artifacts.
    produced: tuple[ArtifactSpec, ...] = ()


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The attempt raised, was over a limit, or was cancelled."""

    run: str
    action: int
    token: bytes
    error: ErrorRecord
    worker: str = ""
    started_ns: int = 0
    ended_ns: int = 0
    usage: Usage | None = None


class Lost(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The attempt's worker died, and not by its own fault as far as anybody knows."""

    run: str
    action: int
    token: bytes
    why: str
    figures: tuple[tuple[str, int], ...] = ()


class Returned(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The attempt was refused or never started; nothing is used up."""

    run: str
    action: int
    token: bytes
    #: busy, draining, memory, unknown-bundle, unknown-environment or old-epoch.
    why: str


class Parked(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The attempt waits for children and has given its slot back."""

    run: str
    action: int
    token: bytes


class StartAction(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A running attempt calls a task. Repeating it is harmless: the id names the call."""

    run: str
    #: Ordinal and token of the calling attempt.
    parent: int
    token: bytes
    id: bytes
    kind: str
    task: TaskRef
    inputs: Value | None
    inputs_hash: bytes
    group: str = ""
    k: int = 0
    policy: Policy | None = None
    cache_key: bytes = b""
    cache_mode: int = 0
    #: Token under which the child has begun on the sender already, and the generation whose
    #: credit that took; empty: it has not.
    eager: bytes = b""
    generation: int = 0
    #: Of kind map: for how many items.
    items: int = 0


class SetTimer(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """A running attempt sleeps durably until a time."""

    run: str
    parent: int
    token: bytes
    id: bytes
    due_ms: int


class RecordTrace(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """A `trace` step of a running attempt ended."""

    run: str
    parent: int
    token: bytes
    id: bytes
    name: str
    inputs_hash: bytes
    output: Value | None
    error: ErrorRecord | None
    started_ns: int
    ended_ns: int


class OpenCondition(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """A running attempt asks somebody for an answer. Repeating it is harmless."""

    run: str
    parent: int
    token: bytes
    id: bytes
    name: str
    #: bool, int, float or str.
    expects: str = "bool"
    prompt: str = ""
    webhook: str = ""
    extras: ConditionExtras = ConditionExtras()


class Notified(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """A condition's webhook was called, with success or for the last time."""

    run: str
    #: Id of the condition.
    id: bytes
    #: `delivered`, or why it is not.
    outcome: str


class CancelChild(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """A running attempt cancelled the asyncio task that awaited a child."""

    run: str
    parent: int
    token: bytes
    id: bytes


class AskChildren(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Which of these are over? Each that is gets a `Release`. Not numbered.

    Sent after a new epoch or a reconnect, and every few seconds for children that have been
    open for long: a release lost on the way down costs seconds, never the run.
    """

    run: str
    parent: int
    token: bytes
    ids: tuple[bytes, ...]


class AskJournal(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Send the journal from entry `start` on. Not numbered."""

    run: str
    action: int
    token: bytes
    start: int


class Goodbye(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """The agent leaves on purpose; it holds nothing any more."""

    generation: int


class Annotate(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """A running attempt leaves something behind: a report, a checkpoint, or an endpoint."""

    run: str
    action: int
    token: bytes
    #: `CHECKPOINT_KEY`, `ENDPOINT_KEY`, or `report_key` of the attempt.
    key: str
    value: Value


class Diverged(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """An attempt did not ask for what an earlier attempt of its action had asked for."""

    run: str
    action: int
    token: bytes
    #: Ids of recorded calls that the attempt never made.
    expected: tuple[bytes, ...]
    #: Id of the first call of the same task that it made instead; empty: none.
    requested: bytes
    #: warn or fail: what the run's policy makes of it.
    reaction: str


Report: TypeAlias = (
    Hello
    | Credit
    | Started
    | Succeeded
    | Failed
    | Lost
    | Returned
    | Parked
    | StartAction
    | SetTimer
    | RecordTrace
    | OpenCondition
    | Notified
    | CancelChild
    | AskChildren
    | AskJournal
    | Goodbye
    | Annotate
    | Diverged
    | RunBegun
    | RunDeclined
)
#: Under this key an action keeps its last checkpoint.
CHECKPOINT_KEY: Final = "checkpoint"
#: Under this key the attempt of an app keeps where its server is reached, and how it fares.
ENDPOINT_KEY: Final = "endpoint"
#: Setting of a run that serves an app until it is aborted: the app's name.
APP_SETTING: Final = "app"


def report_key(attempt: int) -> str:
    """Return the key under which an action keeps the report of its 1-based `attempt`."""
    return f"report/{attempt}"


#: These have no number, are never acknowledged and never spooled.
UNNUMBERED: Final = (Hello, Credit, AskChildren, AskJournal, RunDeclined)


class AgentBatch(msgspec.Struct, frozen=True, array_like=True):
    """Everything that one agent says in one tick of its loop, in order.

    Pool and agent are in the subject, pinned by the sender's credential.
    """

    #: Drawn when the agent process starts: what its former incarnation held is lost.
    incarnation: str
    #: Number of the first numbered item; the others follow. Numbers begin at 1.
    first: int
    items: tuple[Report, ...]
    #: Where the agent listens for orders, also before it has introduced itself.
    region: str = DEFAULT_REGION


# ------------------------------------------------------------------ leader -> agent


class JournalEntry(msgspec.Struct, frozen=True, array_like=True):
    """The outcome of one earlier call of the attempt's action: a child, a trace or a timer."""

    id: bytes
    action: int
    #: One of `Phase`'s terminal values.
    phase: str
    output: Value | None = None
    error: ErrorRecord | None = None
    #: What was called: a task, or a step.
    name: str = ""


#: Journal entries ride in `Work` up to this many encoded bytes; the rest is asked for.
JOURNAL_BYTES_MAX: Final = 256 * 1024


class Work(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Run this attempt."""

    generation: int
    run: str
    action: int
    id: bytes
    attempt: int
    token: bytes
    task: TaskRef
    inputs: Value | None
    bundle: bytes = b""
    policy: Policy | None = None
    journal: tuple[JournalEntry, ...] = ()
    #: Next entry to ask for; 0: the journal is complete.
    journal_next: int = 0
    project: str = ""
    domain: str = ""
    name: str = ""
    group: str = ""
    context: tuple[tuple[str, str], ...] = ()
    #: When the run was asked for, by its id, or was due, of one that a trigger has fired.
    run_started_ms: int = 0
    #: Calls may have an outcome already, of an earlier run: none begins before the leader knows.
    recovers: bool = False
    #: The run is in a queue or paused, or its user has set a limit: no child begins before the
    #: leader says so.
    limited: bool = False
    #: What earlier attempts left for this one.
    kept: tuple[tuple[str, Value], ...] = ()
    #: One of `model.ACTION_KINDS`; `map`: the inputs are those of many calls.
    kind: str = "task"
    #: Apps of the run's project that are up: name, and what its attempt says of its endpoint.
    apps: tuple[tuple[str, Value], ...] = ()


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """End this attempt: cancel, wait for `grace_ms`, kill. Answered by `Failed(cancelled)`."""

    token: bytes
    grace_ms: int
    #: aborted, timeout or superseded.
    why: str


class Release(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A child, timer or condition that an attempt here waits for is over, durably."""

    run: str
    #: Token of the parent's current attempt.
    token: bytes
    id: bytes
    action: int
    phase: str
    output: Value | None = None
    error: ErrorRecord | None = None


class Refuse(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A call of an attempt here was refused; the SDK raises it at the call."""

    run: str
    token: bytes
    id: bytes
    code: str
    reason: str
    retry_after_ms: int = 0


class JournalPage(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """More of the journal, as asked for."""

    token: bytes
    entries: tuple[JournalEntry, ...]
    next: int = 0


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The attempt is not known or not current any more: kill it, report nothing."""

    token: bytes


class Repeat(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Numbers are missing: send again from `start` on."""

    start: int


class SayHello(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The leader does not know this agent (it is new, or gave it up): introduce yourself."""


class Adopted(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """An attempt that began on the agent is recorded; `action` is its ordinal."""

    token: bytes
    action: int


class BeginNothing(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """The run is paused: of what its attempts here call, nothing begins before the leader says so.

    What has begun before this arrives goes on, like all that had been dispatched.
    """

    run: str


class Notify(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Call a condition's webhook and say `Notified`. Given to one agent, twice if it is lost."""

    run: str
    id: bytes
    action: int
    url: str
    #: JSON text, `{callback_uri}` not replaced yet.
    payload: str = ""


Order: TypeAlias = (
    Work
    | Cancel
    | Release
    | Refuse
    | JournalPage
    | Forget
    | Repeat
    | SayHello
    | Adopted
    | BeginNothing
    | Notify
)


class ToAgent(msgspec.Struct, frozen=True, array_like=True):
    """Everything that the leader says to one agent in one tick, in order."""

    #: An agent drops what comes with a lower epoch than it has seen.
    epoch: int
    incarnation: str
    #: Every numbered item up to here is durable and may be forgotten.
    acked: int
    items: tuple[Order, ...]
    #: All of it holds only once this gate is acknowledged as sequence `gate_seq`; empty: now.
    gate: str = ""
    gate_seq: int = 0
