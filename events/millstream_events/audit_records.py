"""What the auditor remembers of a run: just enough to judge the next event, on its own account.

Deliberately not the folded state: the auditor exists to catch a fold or a leader that is wrong,
so it keeps other records, changed by other code (`audit_rules`).
"""

import enum
import hashlib
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from millstream_events.codec import encode
from millstream_events.model import CHAIN_START
from millstream_events.values import DEFAULT_POLICY, Policy, Value

#: Violations that one audit keeps; whatever comes after is counted only.
VIOLATIONS_MAX: Final = 1000
#: Actions that one violation about many of them names.
NAMED_MAX: Final = 5


class Violation(msgspec.Struct, frozen=True):
    """One breach of one invariant (design: reliability.md 4)."""

    #: `I02` to `I29`.
    invariant: str
    #: Run id, or `subjects.SHARD_KEY` for the shard's own frames.
    run: str
    #: Revision of the event that breaks it.
    rev: int
    detail: str


class AuditReport(msgspec.Struct, frozen=True):
    """What an audit found."""

    runs: int
    events: int
    violations: tuple[Violation, ...]
    #: Runs that are not over: judged as far as they got.
    unfinished: int = 0
    #: Events and frames that took no effect: lost races, repeats, late reports.
    voids: int = 0
    #: Violations beyond `VIOLATIONS_MAX`.
    dropped: int = 0


class Standing(enum.Enum):
    """Where an action stands, for the auditor."""

    READY = "ready"
    OUT = "dispatched"
    FALLING = "failed, with nothing decided"
    BACKOFF = "waiting for its retry"
    WAITING = "waiting"
    WALKING = "walking its plan"
    ABORTING = "aborting"
    DONE = "over"


#: What an id stands for: kind, parent, name, identity, inputs hash, group, k.
Identity: TypeAlias = tuple[str, int, str, bytes, bytes, str, int]
#: (epoch, time of the frame): one tick, also when it took several frames.
Tick: TypeAlias = tuple[int, int]


class PlanNote:
    """What is remembered of a plan."""

    __slots__ = ("identities", "ordinals", "sources")

    def __init__(self, identities: list[bytes], sources: list[tuple[int, ...]]) -> None:
        #: Of the task that each node calls; the collector's at the end.
        self.identities = identities
        #: What each node waits for; the collector for all.
        self.sources = sources
        #: Ordinals of the nodes that were requested.
        self.ordinals: dict[int, int] = {}


class ActionNote:
    """What is remembered of one action."""

    __slots__ = (
        "aborted",
        "attempt",
        "awaits_key",
        "cache_key",
        "children",
        "covered",
        "items",
        "kind",
        "last_token",
        "outcome",
        "output",
        "paid_system",
        "paid_user",
        "parent",
        "plan",
        "policy",
        "retryable",
        "standing",
        "started",
        "streamed",
        "timed_out",
        "token",
    )

    def __init__(
        self, kind: str, parent: int, standing: Standing, policy: Policy | None = None
    ) -> None:
        self.kind = kind
        self.parent = parent
        self.standing = standing
        self.policy = policy or DEFAULT_POLICY
        self.attempt = 1
        self.token = b""
        self.last_token = b""
        self.started = False
        self.streamed = 0
        self.retryable = True
        self.paid_user = 0
        self.paid_system = 0
        #: An abort was recorded for the action itself.
        self.aborted = False
        #: An abort of something above it covers it.
        self.covered = False
        self.timed_out = False
        self.outcome = ""
        self.output = b""
        self.cache_key = b""
        #: It is held until another action has computed its cache key.
        self.awaits_key = False
        #: Of kind map: how many were asked for.
        self.items = 0
        self.children: list[int] = []
        #: Of a graph whose plan can be read.
        self.plan: PlanNote | None = None

    @property
    def done(self) -> bool:
        """Whether an effective terminal event was seen."""
        return self.standing is Standing.DONE


class RunNote:
    """What is remembered of one run; almost nothing once it is over (`let_go`)."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.rev = 0
        self.chain = CHAIN_START
        #: A gap or an unreadable record: nothing that follows can be judged.
        self.broken = False
        self.finished = False
        #: A `RunFinished` was written, effective or not.
        self.claimed = False
        self.paused = False
        #: Project and domain, and whether the cache is looked up in these alone.
        self.place: tuple[str, str] = ("", "")
        self.scoped = False
        self.aborting = False
        self.abort_timed_out = False
        self.open = 0
        self.voids = 0
        self.tick: Tick = (0, 0)
        self.actions: list[ActionNote] = []
        self.ids: dict[bytes, Identity] = {}
        self.calls: dict[Identity, bytes] = {}
        #: Content of trace steps by id.
        self.traces: dict[bytes, bytes] = {}
        #: Every token that was ever issued in the run.
        self.tokens: set[bytes] = set()
        #: Parents whose replay diverged: their calls may bind anew.
        self.diverged: set[int] = set()
        #: Attempts that failed, with nothing decided yet: must not outlive the tick.
        self.falling: dict[int, Tick] = {}
        #: Actions that must be told to end: must not outlive the tick either.
        self.untold: dict[int, Tick] = {}

    def let_go(self) -> None:
        """Drop what only an open run needs."""
        self.actions = []
        self.ids = {}
        self.calls = {}
        self.traces = {}
        self.tokens = set()
        self.diverged = set()
        self.falling = {}
        self.untold = {}


class CacheNote(msgspec.Struct, frozen=True):
    """The last success under one cache key, in one project and domain."""

    run: str
    action: int
    output: bytes


#: Takes invariant, run, revision and detail.
Say: TypeAlias = Callable[[str, str, int, str], None]


def value_hash(value: Value | None) -> bytes:
    """Return 16 bytes that two values share only if they are the same."""
    return b"" if value is None else hashlib.blake2b(encode(value), digest_size=16).digest()
