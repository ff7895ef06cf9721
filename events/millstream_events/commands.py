"""What clients ask of the leader, and what it answers.

Commands are imperative and travel on core NATS, so they may be lost, doubled or late: a client
repeats a command until it is answered, and a repeated command gets the recorded answer.
Whatever says that something *happened* (`Accepted`, `RunReleased`) leaves the leader only after
the event behind it is durable.
"""

from typing import Final, TypeAlias

import msgspec

from millstream_events.artifacts import ArtifactSpec, PartitionKeys
from millstream_events.deployed import DeployedTask, DeployedTrigger
from millstream_events.queues import QueueSettings
from millstream_events.values import ErrorRecord, Origin, Policy, TaskRef, Value

# ------------------------------------------------------------------ client -> leader


class SubmitRun(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Start a run. The client draws the run id, so that repeating the command is harmless."""

    command: bytes
    run: str
    task: TaskRef
    inputs: Value | None = None
    project: str = ""
    domain: str = ""
    name: str = ""
    policy: Policy | None = None
    bundle: bytes = b""
    body: bytes = b""
    labels: tuple[tuple[str, str], ...] = ()
    who: str = ""
    origin: Origin | None = None
    deadline_ms: int = 0
    cache_mode: int = 0
    cache_key: bytes = b""
    context: tuple[tuple[str, str], ...] = ()
    #: Run-wide settings by name, sorted; see `state.RunState.setting`.
    settings: tuple[tuple[str, str], ...] = ()
    #: Notes of the client's own, kept with the run: annotations, notifications.
    notes: tuple[tuple[str, str], ...] = ()
    #: Of the root, `task` or `graph`; empty: a task.
    kind: str = ""


class WatchRun(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Send `RunReleased` to this client when the run is over (at once when it is)."""

    command: bytes
    run: str


class AbortRun(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """End the run and everything in it. Answered by `Accepted`, also when it is over already."""

    command: bytes
    run: str
    who: str = ""
    reason: str = ""


class AbortAction(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """End one action and everything below it."""

    command: bytes
    run: str
    action: int
    who: str = ""
    reason: str = ""


class ResolveName(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Which run has this alias? Answered by `Accepted` or a `no-such-run` rejection."""

    command: bytes
    project: str
    name: str


class DescribeShard(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Who leads, and which agents are there? Answered by `ShardDescribed`."""

    command: bytes


class PauseRun(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Dispatch nothing more of the run until it is resumed."""

    command: bytes
    run: str
    who: str = ""
    reason: str = ""


class ResumeRun(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Dispatch the run again."""

    command: bytes
    run: str
    who: str = ""
    reason: str = ""


class SignalCondition(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """Answer a condition. The same answer again is accepted, another one is refused."""

    command: bytes
    run: str
    #: Id of the condition.
    id: bytes
    #: Encoded by `conditions.encode_scalar`.
    value: Value
    who: str = ""


class ConfigureQueue(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Create a queue or change one. Answered by `Accepted`, without a run."""

    command: bytes
    name: str
    settings: QueueSettings
    #: False: it must be there already. True: it must not, but for one that is just the same.
    create: bool = False
    who: str = ""


class DeleteQueue(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """Forget a queue's settings; what names it goes on as in one that nobody configured."""

    command: bytes
    name: str
    who: str = ""


class AnnotateRun(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """Attach notes to a run, also to one that is over."""

    command: bytes
    run: str
    notes: tuple[tuple[str, str], ...]
    who: str = ""


class DeployTask(msgspec.Struct, frozen=True, array_like=True, tag=60):
    """Register a version of a task, with its triggers. Answered by `Accepted`, without a run.

    The same version again is accepted if it is the same in everything, and changes the triggers.
    """

    command: bytes
    deployed: DeployedTask
    triggers: tuple[DeployedTrigger, ...] = ()
    who: str = ""


class SwitchTrigger(msgspec.Struct, frozen=True, array_like=True, tag=61):
    """Activate, deactivate or delete a trigger. Answered by `Accepted`, without a run."""

    command: bytes
    #: `deployed.trigger_key`.
    trigger: str
    active: bool = True
    deleted: bool = False
    who: str = ""


class DeployTrigger(msgspec.Struct, frozen=True, array_like=True, tag=62):
    """Add a trigger to a task that is deployed. Answered by `Accepted`, without a run."""

    command: bytes
    defined: DeployedTrigger
    who: str = ""


class PublishArtifact(msgspec.Struct, frozen=True, array_like=True, tag=63):
    """Publish a version of an artifact. Answered by `Accepted`, without a run.

    The same version again is accepted if it is the same in everything.
    """

    command: bytes
    project: str
    domain: str
    spec: ArtifactSpec
    who: str = ""


class DeclareArtifact(msgspec.Struct, frozen=True, array_like=True, tag=64):
    """Fix an artifact's partition keys; accepted if they are the same already."""

    command: bytes
    project: str
    domain: str
    name: str
    keys: PartitionKeys
    who: str = ""


Command: TypeAlias = (
    SubmitRun
    | WatchRun
    | AbortRun
    | AbortAction
    | ResolveName
    | DescribeShard
    | PauseRun
    | ResumeRun
    | SignalCondition
    | ConfigureQueue
    | DeleteQueue
    | AnnotateRun
    | DeployTask
    | SwitchTrigger
    | DeployTrigger
    | PublishArtifact
    | DeclareArtifact
)


class ClientBatch(msgspec.Struct, frozen=True, array_like=True):
    """Everything that one client process says in one tick of its loop."""

    #: `<who>.<proc>`: answers go to `subjects.client_subject(ns, who, proc)`.
    sender: str
    items: tuple[Command, ...]
    #: An agent that has got this message as well, by `subjects.agent_address`: it may have begun
    #: the run that is submitted, and says so or that it has not.
    agent: str = ""


# ------------------------------------------------------------------ leader -> client


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The command took effect, now or earlier; its event is durable."""

    command: bytes
    run: str
    rev: int = 0


class Rejected(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The command was refused; nothing changed."""

    command: bytes
    #: One of `REJECT_CODES`.
    code: str
    reason: str
    #: 0: the same command will be refused again.
    retry_after_ms: int = 0


class RunReleased(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The run is over, and its end is durable."""

    run: str
    phase: str
    output: Value | None = None
    error: ErrorRecord | None = None
    rev: int = 0
    #: An agent that would begin another run at once, by `subjects.agent_address`; empty: none.
    agent: str = ""


class AgentDescribed(msgspec.Struct, frozen=True, array_like=True):
    """One agent, as the leader sees it."""

    agent: str
    pool: str
    region: str
    cluster: str
    labels: tuple[tuple[str, str], ...]
    slots: int
    running: int
    credit: int
    silence_ms: int
    pid: int
    workers: tuple[int, ...] = ()


class ShardDescribed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Who leads the shard, and what it has to work with."""

    command: bytes
    shard: str
    leader: str
    epoch: int
    pid: int
    agents: tuple[AgentDescribed, ...] = ()
    runs_live: int = 0
    actions_queued: int = 0


Reply: TypeAlias = Accepted | Rejected | RunReleased | ShardDescribed


class ToClient(msgspec.Struct, frozen=True, array_like=True):
    """Everything that the leader says to one client process in one tick."""

    #: A client drops what comes with a lower epoch than it has seen.
    epoch: int
    items: tuple[Reply, ...]
    #: All of it holds only once this gate is acknowledged as sequence `gate_seq`; empty: now.
    gate: str = ""
    gate_seq: int = 0


class LeaderAnnounced(msgspec.Struct, frozen=True, array_like=True):
    """Published on `subjects.leader_subject` after election and once a second.

    Whoever sees a new epoch repeats what is unanswered: agents by `Hello` and their
    unacknowledged reports, clients by their open commands and watches.
    """

    epoch: int
    node: str


REJECT_CODES: Final = (
    "busy",  # too much in flight; try again after `retry_after_ms`
    "no-such-run",
    "no-such-action",
    "name-taken",  # the same name with another body
    "too-large",
    "storage-full",
    "suspect-run",  # the run's history has a gap or a record from a newer version
    "too-many-children",
    "wrong-type",  # the condition asks for an answer of another type
    "queue-full",  # its depth is reached; try again after `retry_after_ms`
    "queue-draining",  # it takes no new runs
    "no-such-queue",
    "already-ended",  # the condition has another answer, or none will be taken any more
    "no-such-task",  # none was deployed under that name, or not in that version
    "no-such-trigger",
    "version-taken",  # the same version of a task with other content
    "no-such-artifact",
    "artifact-taken",  # the same version of an artifact with other content
    "partition-mismatch",  # not the partition keys that the artifact has
    "invalid",
)
