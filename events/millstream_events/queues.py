"""Queues: how much of the work that names one may run at once, and in which order.

A queue that nobody has configured has no limits and names the pool of its name. The settings of
the configured ones are a part of the log (`ConfigApplied`), flattened into names and numbers.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from millstream_events.names import name_flaw

#: Queues that one shard may have configured.
QUEUES_MAX: Final = 64
#: Actions that may wait in a configured queue, unless it says otherwise.
DEPTH: Final = 10_000
#: `priority` by name: order only, nothing that runs is interrupted.
PRIORITIES: Final[Mapping[str, int]] = {"min": 1, "medium": 50, "max": 100}
#: No limit is larger.
LIMIT_MAX: Final = 10_000_000
_PREFIX: Final = "queue/"


class QueueState(StrEnum):
    """Whether a queue takes new runs."""

    ACTIVE = "active"
    DRAINING = "draining"
    #: Draining, and nothing of it is left.
    DRAINED = "drained"


class QueueSettings(msgspec.Struct, frozen=True, array_like=True):
    """One queue's settings; 0 is no limit."""

    #: Runs of the queue that are under way at once; counts roots alone.
    run_concurrency: int = 0
    #: Actions of the queue that run at once; one that waits for its children does not count.
    action_concurrency: int = 0
    #: Actions that may wait; what comes beyond it is refused until there is room.
    depth: int = DEPTH
    #: One of the numbers in `PRIORITIES`.
    priority: int = 50
    #: Pool that runs the queue's actions; empty: the one of its name, or any if there is none.
    pool: str = ""
    #: Takes no new runs; what it has goes on.
    draining: bool = False


def queue_flaw(name: str, settings: QueueSettings) -> str:
    """Return why there cannot be such a queue; empty: there can."""
    if flaw := name_flaw(name):
        return f"the queue's name must {flaw}"
    if settings.pool and (flaw := name_flaw(settings.pool)):
        return f"the queue's pool must {flaw}"
    if settings.priority not in PRIORITIES.values():
        return f"priority must be one of {', '.join(PRIORITIES)}"
    for field in ("run_concurrency", "action_concurrency", "depth"):
        if not 0 <= getattr(settings, field) <= LIMIT_MAX:
            return f"{field} must lie between 0 and {LIMIT_MAX}"
    return ""


def queues_of(settings: Mapping[str, int]) -> dict[str, QueueSettings]:
    """Return the queues that a shard's folded settings describe, by name."""
    found: dict[str, dict[str, int | str | bool]] = {}
    for key, number in settings.items():
        if not key.startswith(_PREFIX):
            continue
        name, _, field = key.removeprefix(_PREFIX).partition("/")
        values = found.setdefault(name, {})
        field, _, text = field.partition("/")
        if field == "pool":
            values[field] = text
        elif field == "draining":
            values[field] = bool(number)
        elif field in QueueSettings.__struct_fields__:
            values[field] = number
    return {name: msgspec.convert(values_of(each), QueueSettings) for name, each in found.items()}


def values_of(fields: Mapping[str, int | str | bool]) -> list[int | str | bool]:
    """Return all fields of `QueueSettings` in their order, the missing ones by default."""
    plain = QueueSettings()
    return [fields.get(name, getattr(plain, name)) for name in QueueSettings.__struct_fields__]


def with_queue(
    settings: Mapping[str, int], name: str, queue: QueueSettings | None
) -> tuple[tuple[str, int], ...]:
    """Return a shard's settings with one queue put in, changed, or (None) taken away."""
    head = f"{_PREFIX}{name}/"
    kept = {key: number for key, number in settings.items() if not key.startswith(head)}
    if queue is not None:
        for field in QueueSettings.__struct_fields__:
            given = getattr(queue, field)
            if isinstance(given, str):
                kept[f"{head}{field}/{given}"] = 1
            else:
                kept[head + field] = int(given)
    return tuple(sorted(kept.items()))
