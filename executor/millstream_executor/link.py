"""What an agent and its workers say to each other, over a socketpair, and how it is framed.

Length-prefixed MessagePack: 4 bytes, big-endian, then one batch (a tuple of messages). Both
sides send one batch for each tick of their loop. A worker knows nothing of NATS; whatever is
too large for a message travels as a file in the node's blob cache, named by its digest.

Local mode uses the same messages without the socket.
"""

from typing import Final, TypeAlias

import msgspec

from millstream_events.artifacts import ArtifactSpec
from millstream_events.ports import OutputLine
from millstream_events.reports import (
    Annotate,
    Diverged,
    JournalPage,
    OpenCondition,
    RecordTrace,
    Refuse,
    Release,
    SetTimer,
    StartAction,
    Work,
)
from millstream_events.values import ErrorRecord, Items, Usage, Value

#: Most that one batch may take; a larger one is a bug of the other side and ends the worker.
BATCH_BYTES_MAX: Final = 64 * 1024 * 1024

# ------------------------------------------------------------------ agent -> worker


class RunAttempt(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Run this attempt now: the slot is yours. Bundle and environment are in place already."""

    work: Work


class CancelAttempt(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Cancel the attempt's asyncio task, or set its `cancelled` flag; report how it ended.

    `why` is one of `reports.Cancel.why`. Killing after the grace period is the agent's job.
    """

    token: bytes
    why: str


class Deliver(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A child (or timer) that an attempt here awaits is over, and the attempt may go on."""

    release: Release


class DeliverRefusal(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A call of an attempt here was refused; raise it there."""

    refusal: Refuse


class DeliverJournal(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """More of the journal that `WantJournal` asked for."""

    page: JournalPage


class BlobFetched(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The blob asked for by `WantBlob` is in the cache now, or cannot be had."""

    digest: bytes
    #: Empty: it is there. Else an error code of `errors` and its text.
    code: str = ""
    why: str = ""


class BlobStored(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The blob named by `StoreBlob` is durable in the cluster's store, or could not be stored."""

    digest: bytes
    code: str = ""
    why: str = ""


class Drain(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Take nothing new; exit when the last attempt is over."""


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Ask for a `Pong` from the worker's loop, to tell a live loop from a blocked one."""

    number: int


class Kept(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """What `Keep` of this number handed over is durable."""

    token: bytes
    number: int


class MayBegin(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """The next child that this attempt calls may begin beside it at once, if it fits there."""

    token: bytes


class MayNotBegin(msgspec.Struct, frozen=True, array_like=True, tag=42):
    """A `MayBegin` that has not been used holds no more."""

    token: bytes


ToWorker: TypeAlias = (
    RunAttempt
    | MayBegin
    | MayNotBegin
    | CancelAttempt
    | Deliver
    | DeliverRefusal
    | DeliverJournal
    | BlobFetched
    | BlobStored
    | Drain
    | Ping
    | Kept
)

# ------------------------------------------------------------------ worker -> agent


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The worker's loop runs and its bundle is loaded. The first message."""

    pid: int


class AttemptBegan(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """User code of the attempt has been entered."""

    token: bytes
    started_ns: int


class AttemptEnded(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The attempt returned (`error` is None) or raised."""

    token: bytes
    output: Value | None
    error: ErrorRecord | None
    started_ns: int
    ended_ns: int
    usage: Usage | None = None
    #: Of kind map: how its items ended.
    items: Items | None = None
    #: Outputs that are to be published as artifacts.
    produced: tuple[ArtifactSpec, ...] = ()


class CallChild(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Forward this call; the attempt now waits for `call.id`."""

    call: StartAction
    #: Token under which the child has begun in this worker already; empty: it has not.
    begun: bytes = b""


class CallTimer(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Forward this timer; the attempt now waits for `timer.id`."""

    timer: SetTimer


class ForwardTrace(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Forward this trace; nobody waits."""

    trace: RecordTrace


class ForwardCondition(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """Forward this condition; nobody waits for its answer yet."""

    opening: OpenCondition


class CallCondition(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Forward this condition; the attempt now waits for `opening.id`."""

    opening: OpenCondition


class DropChild(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The attempt does not wait for this child any more: it was cancelled there."""

    token: bytes
    id: bytes
    #: The child goes on, for somebody who may wait for it later: a condition.
    keep: bool = False


class WantJournal(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Ask the leader for more of the journal."""

    token: bytes
    start: int


class WantBlob(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Bring this blob into the node's cache."""

    digest: bytes


class StoreBlob(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Store a blob in the cluster that was written to the node's cache."""

    digest: bytes
    size_bytes: int


class Printed(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Lines printed by one attempt, or, with an empty token, by the worker as a whole."""

    token: bytes
    lines: tuple[OutputLine, ...]
    #: Lines dropped before these, because more were printed than is kept.
    dropped: int = 0
    #: Attempts that were live when a line with an empty token was printed: one of these did it.
    candidates: tuple[bytes, ...] = ()


class Unusable(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """The worker cannot serve (its bundle cannot be loaded, say): every attempt given fails so."""

    error: ErrorRecord


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """The worker's loop got round to the `Ping` of this number."""

    number: int


class Keep(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """Forward what an attempt leaves behind, and answer `Kept` once it is durable."""

    #: Of the attempt's own counting.
    number: int
    note: Annotate


class ForwardDivergence(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """Forward this finding; nobody waits."""

    finding: Diverged


FromWorker: TypeAlias = (
    Ready
    | AttemptBegan
    | AttemptEnded
    | CallChild
    | CallTimer
    | ForwardTrace
    | ForwardCondition
    | CallCondition
    | DropChild
    | WantJournal
    | WantBlob
    | StoreBlob
    | Printed
    | Unusable
    | Pong
    | Keep
    | ForwardDivergence
)
