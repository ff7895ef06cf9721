"""The log auditor: reads frames alone, in one pass, and names every invariant that they break.

The invariants are those of reliability.md 4 that frames alone can show: I02 to I13, I15 to I18,
I22 to I26, I28 and I29. (I14 is about what a parent was sent, which is no event; its
own half, that a run ends with its root's outcome and output, is in I26 and I07.)

What it remembers of a run that is over is a few bytes. A log of one run alone (a filtered read)
is judged as well, by its own revisions, chain and epochs; what only a whole shard's log can
show is then left out: elections, missing frames of other runs, where a cached value comes from.
"""

from collections.abc import Iterable
from typing import Final

from millstream_events import model as m
from millstream_events.audit_judge import Judge
from millstream_events.audit_records import (
    NAMED_MAX,
    VIOLATIONS_MAX,
    AuditReport,
    RunNote,
    Violation,
)
from millstream_events.audit_replay import ReplayAudit
from millstream_events.audit_rules import judge_event
from millstream_events.codec import OpaqueFrame, decode_frame
from millstream_events.errors import LogCorruptError
from millstream_events.ids import chain_hash
from millstream_events.ports import LogEntry
from millstream_events.subjects import SHARD_KEY

#: Frames whose hash is remembered, to tell a republished frame from another with its number.
RECENT_MAX: Final = 4096


def audit(entries: Iterable[LogEntry], *, quiescent: bool) -> AuditReport:
    """Audit a log, or the part of it that belongs to one run.

    Args:
        entries: In stream order, from the log's beginning.
        quiescent: Nothing is under way any more: a run that claims to be over must be.
    """
    auditor = LogAudit()
    for entry in entries:
        auditor.take(entry)
    return auditor.report(quiescent=quiescent)


class LogAudit:
    """An audit in progress, for a log that is read piece by piece."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []
        self._dropped = 0
        self._events = 0
        self._void_frames = 0
        self._runs: dict[str, RunNote] = {}
        self._shard = RunNote(SHARD_KEY)
        self._judge = Judge(self._say)
        self._replay = ReplayAudit(self._say)
        self._epoch = 0
        self._number = 0
        self._announced = 0
        self._recent: dict[tuple[int, int], bytes] = {}
        #: Missing frame numbers: a breach unless archived runs were purged.
        self._gaps: list[Violation] = []
        self._archived = False

    def take(self, entry: LogEntry) -> None:
        """Judge the next entry of the log."""
        self._replay.take(entry)
        note = self._note(entry.key)
        try:
            frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
        except LogCorruptError as exc:
            note.broken = True
            self._say("I03", entry.key, note.rev + 1, exc.why)
            return
        if self._is_void(entry, frame, note):
            self._void_frames += 1
            return
        self._events += len(frame.events)
        self._follow_epoch(entry.key, frame)
        self._check_chain(entry, frame, note)
        if isinstance(frame, OpaqueFrame):
            note.broken = True
            self._say("I29", entry.key, frame.rev, "an event of a type that is not known")
        elif entry.key == SHARD_KEY:
            self._take_shard(frame)
        elif not note.broken:
            self._take_run(frame, note)
        note.rev = frame.rev + len(frame.events) - 1

    def report(self, *, quiescent: bool) -> AuditReport:
        """Return what was found; nothing may be taken afterwards.

        Args:
            quiescent: Nothing is under way any more: a run that claims to be over must be.
        """
        self._replay.end()
        if not self._archived:
            for gap in self._gaps:
                self._say(gap.invariant, gap.run, gap.rev, gap.detail)
        if quiescent:
            for note in self._runs.values():
                self._check_ends(note)
        return AuditReport(
            len(self._runs),
            self._events,
            tuple(self._violations),
            sum(not note.finished for note in self._runs.values()),
            self._void_frames + sum(note.voids for note in self._runs.values()),
            self._dropped,
        )

    def _say(self, invariant: str, run: str, rev: int, detail: str) -> None:
        if len(self._violations) < VIOLATIONS_MAX:
            self._violations.append(Violation(invariant, run, rev, detail))
        else:
            self._dropped += 1

    def _note(self, key: str) -> RunNote:
        if key == SHARD_KEY:
            return self._shard
        note = self._runs.get(key)
        if note is None:
            note = self._runs[key] = RunNote(key)
        return note

    # -------------------------------------------------------------- frames

    def _is_void(self, entry: LogEntry, frame: m.Frame | OpaqueFrame, note: RunNote) -> bool:
        if frame.epoch < self._epoch:
            text = f"a frame of epoch {frame.epoch} after epoch {self._epoch} had begun"
            self._say("I16", entry.key, frame.rev, text)
            return True
        name = (frame.epoch, frame.number)
        content = chain_hash(entry.payload)
        before = self._recent.get(name)
        if before == content:
            return True  # F3: republished after a lost acknowledgement.
        if before is not None or (frame.epoch == self._epoch and frame.number <= self._number):
            text = f"frame {frame.number} of epoch {frame.epoch} was written twice"
            self._say("I02", entry.key, frame.rev, text)
            return frame.rev <= note.rev
        self._recent[name] = content
        if len(self._recent) > RECENT_MAX:
            del self._recent[next(iter(self._recent))]
        return False

    def _follow_epoch(self, key: str, frame: m.Frame | OpaqueFrame) -> None:
        begun = frame.epoch > self._epoch
        if begun:
            announces = isinstance(frame, m.Frame) and any(
                isinstance(event, m.LeaderElected) for event in frame.events
            )
            if self._announced and not announces:
                text = f"epoch {frame.epoch} was never announced"
                self._say("I16", key, frame.rev, text)
            self._epoch = frame.epoch
        elif frame.number > self._number + 1 and self._announced == self._epoch:
            text = f"frames {self._number + 1} to {frame.number - 1} are missing"
            if len(self._gaps) < VIOLATIONS_MAX:
                self._gaps.append(Violation("I17", key, frame.rev, text))
        self._number = frame.number if begun else max(self._number, frame.number)

    def _check_chain(self, entry: LogEntry, frame: m.Frame | OpaqueFrame, note: RunNote) -> None:
        text = ""
        if frame.rev != note.rev + 1:
            text = f"revision {frame.rev} follows {note.rev}"
        elif frame.prev != note.chain:
            text = "the frame does not continue the one before it"
        if text:
            note.broken = True
            self._say("I03", entry.key, frame.rev, text)
        note.chain = chain_hash(entry.payload)

    # -------------------------------------------------------------- contents

    def _take_run(self, frame: m.Frame, note: RunNote) -> None:
        self._judge.whole = self._announced > 0
        self._judge.begin_frame(note, (frame.epoch, frame.ts_ns))
        for event in frame.events:
            judge_event(self._judge, event)
        if note.finished:
            note.let_go()

    def _take_shard(self, frame: m.Frame) -> None:
        for index, event in enumerate(frame.events):
            if isinstance(event, m.LeaderElected):
                if event.epoch <= self._announced or event.epoch != frame.epoch:
                    text = (
                        f"epoch {event.epoch} is announced after {self._announced}, in a frame "
                        f"of {frame.epoch}"
                    )
                    self._say("I16", SHARD_KEY, frame.rev + index, text)
                self._announced = max(self._announced, event.epoch)
            elif isinstance(event, m.RunArchived):
                self._archived = True

    def _check_ends(self, note: RunNote) -> None:
        if note.broken or note.finished or not note.claimed:
            return
        left = [ordinal for ordinal, action in enumerate(note.actions) if not action.done]
        for ordinal in left[:NAMED_MAX]:
            self._say("I04", note.run, note.rev, f"a{ordinal} never ended")
