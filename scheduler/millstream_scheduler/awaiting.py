"""Submissions that wait until the run that they recover from has been read."""

from collections.abc import Callable, Sequence
from typing import Final

from millstream_events.commands import ClientBatch, Command, SubmitRun, WatchRun
from millstream_events.ids import is_run_id
from millstream_events.ports import EventLog
from millstream_scheduler.book import Book
from millstream_scheduler.source_reader import SourceReader
from millstream_scheduler.sources import Reading, reuses

#: Submissions that wait at once; their senders repeat others.
AWAITING_SOURCE_MAX: Final = 1_024


class AwaitingSources:
    """Keeps submissions back, and what was read for those that the next ticks will hear.

    Args:
        book: The leader's memory.
        event_log: Where runs are read.
        go_on: Takes the submissions whose source has been read.
    """

    def __init__(
        self, book: Book, event_log: EventLog, go_on: Callable[[list[ClientBatch]], None]
    ) -> None:
        self._book = book
        self._go_on = go_on
        self._reader = SourceReader(event_log, self._on_source)
        #: By the run that is being read for them.
        self._awaiting: dict[str, list[ClientBatch]] = {}
        #: What has been read.
        self._sources: dict[str, Reading] = {}

    def stop(self) -> None:
        """Read nothing more."""
        self._reader.stop()

    def forget(self) -> None:
        """Let go of what has been read: the submissions have been refused."""
        self._sources = {}

    def set_aside(self, batch: ClientBatch) -> tuple[Command, ...]:
        """Keep submissions back while the runs that they recover are read; return the rest.

        The watch of a run waits with its submission. What finds no room is dropped, and its
        sender repeats it.
        """
        if not any(map(_recovers, batch.items)):
            return batch.items
        aside: dict[str, str] = {}
        rest: list[Command] = []
        for item in batch.items:
            source = self._unread_source(item)
            if source and isinstance(item, SubmitRun):
                aside[item.run] = source
            elif isinstance(item, WatchRun):
                source = aside.get(item.run, "")
            if not source:
                rest.append(item)
                continue
            waiting = sum(map(len, self._awaiting.values()))
            if waiting < AWAITING_SOURCE_MAX and self._reader.begin(source):
                kept = ClientBatch(batch.sender, (item,))
                self._awaiting.setdefault(source, []).append(kept)
        return tuple(rest)

    def take(self, batches: Sequence[ClientBatch]) -> dict[str, Reading]:
        """Return what was read for these submissions, which hear of it once."""
        if not self._sources:
            return {}
        named = {
            item.origin.run
            for batch in batches
            for item in batch.items
            if isinstance(item, SubmitRun) and item.origin is not None
        }
        return {run: self._sources.pop(run) for run in named if run in self._sources}

    def _unread_source(self, item: Command) -> str:
        """Return the run that has to be read before the command can be heard, or nothing."""
        if not isinstance(item, SubmitRun) or item.origin is None or not _recovers(item):
            return ""
        source = item.origin.run
        read = source in self._sources or source in self._book.sources
        known = item.run in self._book.state.runs
        return "" if read or known or not is_run_id(source) else source

    def _on_source(self, run: str, reading: Reading | None) -> None:
        waiting = self._awaiting.pop(run, [])
        if reading is None:
            return  # The log did not answer; the senders repeat.
        self._sources[run] = reading
        self._go_on(waiting)


def _recovers(item: Command) -> bool:
    return isinstance(item, SubmitRun) and reuses(item.origin)
