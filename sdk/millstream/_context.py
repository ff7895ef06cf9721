"""What a running attempt is, and what it may ask of its host.

The SDK turns a task call into a `Call`; a `Controller` (the worker of an agent, or local mode)
carries it out. The SDK never sees NATS, the host never sees user values: what crosses is bytes.
"""

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from millstream_events.conditions import ConditionExtras
from millstream_events.ids import action_name
from millstream_events.reports import JournalEntry
from millstream_events.values import (
    DEFAULT_POLICY,
    ErrorRecord,
    Policy,
    RunWide,
    TaskRef,
    Value,
)

#: Children that one attempt may have open at once; the next call waits for one of them.
OPEN_CALLS_MAX: Final = 10_000


class Call(msgspec.Struct, frozen=True):
    """One task call made by a running attempt, ready to be sent."""

    #: `ids.child_id` of the call.
    id: bytes
    #: One of `model.ACTION_KINDS`.
    kind: str
    task: TaskRef
    #: The encoded inputs, of any size; None for a task without parameters.
    content: bytes | None
    codec: str
    inputs_hash: bytes
    group: str = ""
    k: int = 0
    policy: Policy | None = None
    cache_key: bytes = b""
    cache_mode: int = 0
    #: Of kind map: for how many items.
    items: int = 0


class TraceResult(msgspec.Struct, frozen=True):
    """One `trace` step that ended."""

    id: bytes
    name: str
    inputs_hash: bytes
    content: bytes | None
    codec: str
    error: ErrorRecord | None
    started_ns: int
    ended_ns: int


class Question(msgspec.Struct, frozen=True):
    """One condition of a running attempt, ready to be sent."""

    id: bytes
    name: str
    #: bool, int, float or str.
    expects: str
    prompt: str
    #: URL, or empty.
    webhook: str
    extras: ConditionExtras


class Divergence(NamedTuple):
    """How the calls of an attempt differ from those that earlier attempts had recorded."""

    #: Outcomes of calls that this attempt never made; at least one.
    recorded: tuple[JournalEntry, ...]
    #: Id of the first call of the same task that it made instead, and the task; or empty.
    requested: bytes
    requested_name: str


class Controller(Protocol):
    """What the SDK needs from the host of an attempt. Called on the host's event loop only."""

    async def call(self, call: Call) -> JournalEntry:
        """Run a child and return its outcome, durable, of whatever phase.

        Cancelling the awaiting coroutine aborts the child.

        Raises:
            RejectedError: The leader refused the call.
        """
        ...

    async def sleep(self, action_id: bytes, due_ms: int) -> None:
        """Return when Unix time `due_ms` has come, also across retries of the attempt."""
        ...

    async def open_condition(self, question: Question) -> None:
        """Put a condition on its way to the log; nobody waits for its answer yet."""
        ...

    async def wait_for_condition(self, question: Question) -> JournalEntry:
        """Return how the condition ended, opened if it is not. Cancelling leaves it open.

        Raises:
            RejectedError: The leader refused the condition.
        """
        ...

    def recorded(self, action_id: bytes) -> JournalEntry | None:
        """Return the recorded outcome of an earlier attempt's call or trace, if there is one."""
        ...

    async def record_trace(self, result: TraceResult) -> None:
        """Put a finished `trace` step on its way to the log, ahead of the attempt's own result."""
        ...

    async def fetch(self, value: Value) -> bytes:
        """Return the content of `value`, from the log or the blob store.

        Raises:
            BlobMissingError, BlobCorruptError, LogUnavailableError: as `BlobStore.get`.
        """
        ...

    async def store(self, content: bytes, codec: str) -> Value:
        """Return a `Value` for `content`: inline up to `INLINE_BYTES_MAX`, else a stored blob."""
        ...

    async def keep(self, key: str, value: Value) -> None:
        """Leave `value` behind for later attempts and readers; durable when this returns."""
        ...

    def divergence(self) -> Divergence | None:
        """Compare what the attempt asked for with what earlier ones had recorded."""
        ...

    async def note_divergence(self, found: Divergence, policy: str) -> None:
        """Put the finding on its way to the log."""
        ...


class ActionContext(msgspec.Struct, kw_only=True):
    """The attempt that the current code belongs to."""

    run: str
    action: int
    action_id: bytes
    #: 1-based.
    attempt: int
    task: TaskRef
    project: str
    domain: str
    #: Alias of the run, or empty.
    name: str
    group: str
    bundle: bytes
    #: Strings from outside that the action sees (`custom_context`).
    context: Mapping[str, str]
    run_started_ms: int
    #: local or remote.
    mode: str
    controller: Controller
    #: Loop that `controller` lives on; a sync task calls into it from its own thread.
    loop: asyncio.AbstractEventLoop
    #: Set when the attempt has been told to end; sync code sees it at its next SDK call.
    cancelled: bool = False
    policy: Policy = DEFAULT_POLICY
    wide: RunWide = RunWide()
    #: Strings of the whole run: what `context` is unless a caller changed it.
    run_context: Mapping[str, str] = {}
    #: What earlier attempts left behind.
    kept: Mapping[str, Value] = {}
    #: Apps of the project that were up when the attempt began, by name.
    apps: Mapping[str, Value] = {}
    #: Content of what earlier attempts left behind, as far as it was brought before the start.
    brought: dict[str, bytes] = msgspec.field(default_factory=dict[str, bytes])
    #: Of the task's own code: `ctx().data`.
    data: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    #: What belongs to the attempt and is made when it is first asked for, by its type.
    attached: dict[type, object] = msgspec.field(default_factory=dict[type, object])
    #: Identical calls made so far, by `(task identity, inputs hash, group)`: the `k` of ids.
    calls: dict[tuple[bytes, bytes, str], int] = msgspec.field(
        default_factory=dict[tuple[bytes, bytes, str], int]
    )
    #: Names of conditions that this attempt has opened and not seen the end of.
    conditions: set[str] = msgspec.field(default_factory=set[str])
    #: Bounds the children that are called and not over.
    open_calls: asyncio.Semaphore = msgspec.field(
        default_factory=lambda: asyncio.Semaphore(OPEN_CALLS_MAX)
    )
    #: Traces on their way to the log that no code waits for; the host awaits `_settling.settle`
    #: before it reports the attempt's result.
    unsettled: set[asyncio.Future[None]] = msgspec.field(
        default_factory=set["asyncio.Future[None]"]
    )

    def place(self) -> tuple[str, str]:
        """Return run and action as people know them, for the lines that code writes."""
        return self.run, action_name(self.action_id)


#: None outside a task. Copied into the threads that run sync tasks.
current: Final[ContextVar[ActionContext | None]] = ContextVar("millstream_action", default=None)
