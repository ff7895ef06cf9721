"""The runs of a shard, listed without folding the whole log each time.

An index belongs to one client. Its first use reads the log from its beginning; each later one
reads what has come since. Of a run that is over it keeps the root action alone.
"""

import asyncio
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec

from millstream._client import Client
from millstream._reader import read_entries
from millstream._remote_records import SortBy, TimeFilter, sort_key
from millstream_events.fold import fold_entry
from millstream_events.phases import Phase
from millstream_events.ports import EventLog
from millstream_events.state import RunState, ShardState
from millstream_events.subjects import SHARD_KEY

#: Finished runs that an index keeps; the oldest are let go of, and are then found by name only.
FINISHED_RUNS_MAX: Final = 100_000


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list; everything that is given must hold."""

    #: In capitals.
    phases: frozenset[str] = frozenset()
    task_name: str | None = None
    #: Hash of the root task's name, interface and body, in hex, or a prefix of it.
    task_version: str | None = None
    created_by: str | None = None
    project: str | None = None
    domain: str | None = None
    created_at: TimeFilter | None = None
    updated_at: TimeFilter | None = None
    labels: Mapping[str, str] = {}
    label_keys: tuple[str, ...] = ()
    paused_actions_only: bool = False

    def takes(self, run: RunState, updated_ns: int) -> bool:
        """Say whether the run is to be listed."""
        labels = dict(run.labels)
        root = run.actions[0].task if run.actions else None
        version = "" if root is None else root.identity.hex()
        return (
            (not self.phases or run.shown_phase in self.phases)
            and self.task_name in (None, root.name if root is not None else "")
            and (self.task_version is None or version.startswith(self.task_version))
            and self.created_by in (None, run.who)
            and self.project in (None, run.project)
            and self.domain in (None, run.domain)
            and (self.created_at is None or self.created_at.covers(run.created_ns))
            and (self.updated_at is None or self.updated_at.covers(updated_ns))
            and all(labels.get(key) == value for key, value in self.labels.items())
            and all(key in labels for key in self.label_keys)
            and (not self.paused_actions_only or _has_paused_action(run))
        )


def _has_paused_action(run: RunState) -> bool:
    return any(each.phase == Phase.PAUSED and each.kind == "condition" for each in run.actions)


class RunIndex:
    """What one client knows of its shard's runs. On one event loop only."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._shard = ShardState("")
        self._seq = 0
        self._updated: dict[str, int] = {}
        #: Finished runs, oldest end first.
        self._finished: dict[str, None] = {}
        self._reading = asyncio.Lock()

    async def runs(
        self, wanted: RunFilter, *, sort_by: SortBy | None = None, limit: int | None = None
    ) -> list[RunState]:
        """Return the runs that `wanted` takes; by default the one created first comes first.

        Raises:
            ValueError: A field that cannot be sorted by.
            LogUnavailableError: As `EventLog.read`.
        """
        name, reverse = sort_key(sort_by, tuple(_FIELDS))
        await self.refresh()
        found = [
            run
            for run in self._shard.runs.values()
            if run.created_ns and wanted.takes(run, self._updated.get(run.id, 0))
        ]
        if name == "updated_at":
            found.sort(key=lambda run: self._updated.get(run.id, 0), reverse=reverse)
        else:
            found.sort(key=_FIELDS[name], reverse=reverse)
        return found if limit is None else found[: max(0, limit)]

    async def refresh(self) -> None:
        """Read what has been logged since the last time.

        Raises:
            LogUnavailableError: As `EventLog.read`.
        """
        async with self._reading:
            async for entry in read_entries(self._log, after_seq=self._seq):
                self._seq = entry.seq
                self._shard.shard = self._shard.shard or entry.key[:4].replace(SHARD_KEY, "")
                fold_entry(self._shard, entry)
                self._updated[entry.key] = self._shard.ts_ns
                run = self._shard.runs.get(entry.key)
                if run is not None and run.finished:
                    self._trim(run)
            # Nothing is decided here, so nothing is taken from the cache either.
            self._shard.cache.clear()

    def _trim(self, run: RunState) -> None:
        if len(run.actions) > 1:
            del run.actions[1:]
            run.ordinals = {}
        self._finished.setdefault(run.id)
        while len(self._finished) > FINISHED_RUNS_MAX:
            oldest = next(iter(self._finished))
            del self._finished[oldest]
            self._updated.pop(oldest, None)
            self._shard.runs.pop(oldest, None)


_FIELDS: Final[Mapping[str, Callable[[RunState], Any]]] = {
    "created_at": operator.attrgetter("created_ns"),
    "updated_at": operator.attrgetter("ended_ns"),
    "start_time": operator.attrgetter("started_ns"),
    "end_time": operator.attrgetter("ended_ns"),
    "name": lambda run: run.name or run.id,
    "phase": operator.attrgetter("shown_phase"),
    "task_name": lambda run: run.actions[0].task.name if run.actions else "",
}

_indexes: Final[WeakKeyDictionary[Client, RunIndex]] = WeakKeyDictionary()


def index_of(client: Client) -> RunIndex:
    """Return the index of a client; made by its first use."""
    index = _indexes.get(client)
    if index is None:
        index = _indexes[client] = RunIndex(client.log)
    return index


def labels_asked(pairs: Iterable[str]) -> dict[str, str]:
    """Return labels from `KEY=VALUE` texts.

    Raises:
        ValueError: One has no `=`, or no key.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"{pair!r} is not KEY=VALUE")
        found[key] = value
    return found
