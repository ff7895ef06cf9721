"""Writes small logs as a leader would, and can be told to write them wrongly."""

from millstream_events import model as m
from millstream_events.audit import audit
from millstream_events.codec import encode_frame
from millstream_events.ids import chain_hash
from millstream_events.model import CHAIN_START
from millstream_events.ports import LogEntry
from millstream_events.subjects import SHARD_KEY
from millstream_events.values import CACHE_SERIALIZED, ErrorRecord, Inline, Policy, TaskRef

RUN = "lo00-00000001-00000001"
OTHER = "lo00-00000002-00000002"
OUTPUT = Inline("msgpack", b"\x01")
OTHER_OUTPUT = Inline("msgpack", b"\x02")
ERROR = ErrorRecord("user", "ValueError", "no")
FINAL_ERROR = ErrorRecord("user", "ValueError", "no", retryable=False)
CANCELLED = ErrorRecord("cancelled", "ActionAbortedError", "aborted", retryable=False)
TASK = TaskRef("env.child", "app", "child", b"identity")


class LogBuilder:
    """A log in the making: epoch, numbers, revisions and chains follow by themselves."""

    def __init__(self, *, elected: bool = True) -> None:
        self.entries: list[LogEntry] = []
        self.epoch = 1
        self.number = 0
        self.ts_ns = 1_000_000_000
        self._revs: dict[str, int] = {}
        self._chains: dict[str, bytes] = {}
        if elected:
            self.elect(1)

    def elect(self, epoch: int, **edits: int) -> None:
        """Begin an epoch."""
        self.epoch, self.number = epoch, 0
        self.frame(
            SHARD_KEY,
            [m.LeaderElected(0, epoch=edits.pop("announced", epoch), node="node#1")],
            **edits,
        )

    def frame(
        self,
        key: str,
        events: list[m.Event],
        *,
        epoch: int | None = None,
        number: int | None = None,
        rev: int | None = None,
        prev: bytes | None = None,
        same_tick: bool = False,
        keep: bool = True,
    ) -> None:
        """Append one frame; every keyword is an edit of what a leader would write."""
        self.number += 1
        self.ts_ns += 0 if same_tick else 1_000_000
        following = self._revs.get(key, 0) + 1
        payload = encode_frame(
            epoch=self.epoch if epoch is None else epoch,
            number=self.number if number is None else number,
            ts_ns=self.ts_ns,
            rev=following if rev is None else rev,
            prev=self._chains.get(key, CHAIN_START) if prev is None else prev,
            events=events,
        )
        self._revs[key] = following + len(events) - 1
        self._chains[key] = chain_hash(payload)
        if keep:
            self.entries.append(LogEntry(len(self.entries) + 1, key, payload, self.ts_ns))

    def runs(self, *frames: list[m.Event], key: str = RUN) -> "LogBuilder":
        """Append one frame of a run for each list of events."""
        for events in frames:
            self.frame(key, list(events))
        return self


def token(ordinal: int, attempt: int = 1, dispatch: int = 1) -> bytes:
    return bytes((ordinal % 256, attempt, dispatch)) + b"token"


def child_name(ordinal: int) -> bytes:
    return b"id-" + ordinal.to_bytes(7)


def created(**edits: object) -> m.RunCreated:
    return m.RunCreated(0, **({"run": RUN, "project": "p", "task": TaskRef("env.root")} | edits))


def asked(ordinal: int, parent: int = 0, **edits: object) -> m.ActionRequested:
    given = {"id": child_name(ordinal), "parent": parent, "task": TASK, "k": ordinal}
    return m.ActionRequested(ordinal, 0, **(given | edits))


def sent(ordinal: int, attempt: int = 1, dispatch: int = 1, **edits: object) -> m.AttemptDispatched:
    given = {"pool": "default", "agent": "a", "token": token(ordinal, attempt, dispatch)}
    return m.AttemptDispatched(ordinal, attempt, **(given | edits))


def began(ordinal: int, attempt: int = 1, **edits: object) -> m.AttemptStarted:
    given = {"token": token(ordinal, attempt), "worker": "w", "pid": 7, "started_ns": 5}
    return m.AttemptStarted(ordinal, attempt, **(given | edits))


def won(ordinal: int, attempt: int = 1, dispatch: int = 1, **edits: object) -> m.AttemptSucceeded:
    given = {
        "token": token(ordinal, attempt, dispatch),
        "output": OUTPUT,
        "started_ns": 5,
        "ended_ns": 9,
    }
    return m.AttemptSucceeded(ordinal, attempt, **(given | edits))


def failed(ordinal: int, attempt: int = 1, **edits: object) -> m.AttemptFailed:
    given = {"token": token(ordinal, attempt), "error": ERROR, "started_ns": 5, "ended_ns": 9}
    return m.AttemptFailed(ordinal, attempt, **(given | edits))


def lost(ordinal: int, attempt: int = 1) -> m.AttemptLost:
    return m.AttemptLost(ordinal, attempt, token=token(ordinal, attempt), why="agent-silent")


def gone_back(ordinal: int, attempt: int = 1) -> m.AttemptReturned:
    return m.AttemptReturned(ordinal, attempt, token=token(ordinal, attempt), why="busy")


def again(ordinal: int, attempt: int, due_ms: int = 0, budget: str = "user") -> m.RetryScheduled:
    return m.RetryScheduled(ordinal, attempt, due_ms=due_ms, budget=budget)


def ended(ordinal: int, phase: str = "FAILED") -> m.ActionFinished:
    return m.ActionFinished(ordinal, 1, phase=phase, error=ERROR)


def stop(ordinal: int, why: str = "user", **edits: object) -> m.ActionAbortRequested:
    return m.ActionAbortRequested(ordinal, why=why, **edits)


def stop_run(**edits: object) -> m.RunAbortRequested:
    return m.RunAbortRequested(0, who="me", **edits)


def over(phase: str = "SUCCEEDED", output: object = OUTPUT) -> m.RunFinished:
    return m.RunFinished(0, phase=phase, output=output if phase == "SUCCEEDED" else None)


def step(ordinal: int, parent: int = 0, **edits: object) -> m.TraceRecorded:
    given = {
        "id": child_name(ordinal),
        "parent": parent,
        "token": token(parent),
        "name": "step",
        "output": OUTPUT,
        "started_ns": 6,
        "ended_ns": 7,
    }
    return m.TraceRecorded(ordinal, 1, **(given | edits))


def retrying(**edits: object) -> Policy:
    return Policy(**({"retries": 2} | edits))


#: A run of one action up to its dispatch, and its end.
HEAD = [created(), sent(0)]
TAIL = [won(0), over()]
RETRYING = [created(policy=retrying()), sent(0)]
CACHED = {"cache_key": b"key"}
SERIAL = {"cache_key": b"key", "cache_mode": CACHE_SERIALIZED}


def invariants(entries: list[LogEntry], *, quiescent: bool = True) -> set[str]:
    """Return the names of the invariants that an audit finds broken."""
    return {violation.invariant for violation in audit(entries, quiescent=quiescent).violations}
