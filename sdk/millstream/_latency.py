"""How long a run's actions spent in each phase, from the times in its log."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from millstream_events.codec import OpaqueFrame, decode_frame
from millstream_events.model import (
    ActionRequested,
    AttemptDispatched,
    AttemptFailed,
    AttemptSucceeded,
    RunCreated,
)
from millstream_events.ports import LogEntry

#: queued: request to dispatch. starting: dispatch to the first line of user code. running: user
#: code, waits for children included. recording: its end to the tick that recorded it.
PHASES: Final = ("queued", "starting", "running", "recording")
_SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_NS_PER_MS: Final = 1e6


class PhaseLatency(msgspec.Struct, frozen=True):
    """Percentiles of one phase over all attempts, in ms."""

    phase: str
    attempts: int
    p50: float
    p90: float
    p99: float


def phase_latencies(entries: Iterable[LogEntry]) -> list[PhaseLatency]:
    """Return one row for each phase, from a run's records in their order.

    Worker and leader may have different clocks: `starting` and `recording` then carry the
    difference, and are cut at 0.
    """
    spans: dict[str, list[float]] = {phase: [] for phase in PHASES}
    requested: dict[int, int] = {}
    dispatched: dict[bytes, int] = {}
    for entry in entries:
        frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
        if isinstance(frame, OpaqueFrame):
            continue
        for event in frame.events:
            match event:
                case RunCreated() | ActionRequested():
                    requested[event.action] = frame.ts_ns
                case AttemptDispatched():
                    dispatched[event.token] = frame.ts_ns
                    if event.attempt == 1 and event.action in requested:
                        _add(spans, "queued", requested[event.action], frame.ts_ns)
                case AttemptSucceeded() | AttemptFailed() if event.token in dispatched:
                    _add(spans, "starting", dispatched[event.token], event.started_ns)
                    _add(spans, "running", event.started_ns, event.ended_ns)
                    _add(spans, "recording", event.ended_ns, frame.ts_ns)
                case _:
                    pass
    return [_row(phase, values) for phase, values in spans.items() if values]


def _add(spans: Mapping[str, list[float]], phase: str, since_ns: int, until_ns: int) -> None:
    if since_ns and until_ns:
        spans[phase].append(max(0.0, (until_ns - since_ns) / _NS_PER_MS))


def _row(phase: str, values: list[float]) -> PhaseLatency:
    ordered = sorted(values)
    picked = {
        name: ordered[min(len(ordered) - 1, int(len(ordered) * share))]
        for name, share in _SHARES.items()
    }
    return PhaseLatency(phase, len(ordered), **picked)
