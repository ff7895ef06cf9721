"""The client's side of `millstream_events.commands`, without any I/O.

Commands travel on a bus that may lose, double and delay them, and the leader may change at any
moment. The rules that make every command end exactly once:

- An open command is repeated until it is answered: after 1 s, then doubling to every 5 s, and
  at once on a new epoch or a new connection. Its id makes the repetition harmless.
- What comes with a lower epoch than one that was seen is dropped: a deposed leader lies.
- A watch is repeated every 5 s until the run is over, because a release may be lost as well.
- The first sending of a run goes to an agent as well that would begin it at once, as the release
  of the last run has said; a repetition goes to the leader alone.
- A refusal that names a time to wait is not an answer; the command is sent again by then.
  A full store is one all the same: room comes by somebody's hand, so the caller is told.

Time comes in as an argument, and what is to be sent goes out as bytes.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from millstream_events.codec import MESSAGE_BYTES_MAX, encode, split
from millstream_events.commands import (
    Accepted,
    ClientBatch,
    Command,
    Rejected,
    Reply,
    RunReleased,
    ShardDescribed,
    SubmitRun,
    ToClient,
    WatchRun,
)
from millstream_events.early import may_begin_early

#: Commands that may be out without an answer; further ones wait here.
WINDOW_MAX: Final = 4096
#: Commands that may wait for room in the window; above it `open` refuses.
QUEUED_MAX: Final = 256 * 1024
#: First wait for an answer, and the longest between two repetitions.
REPEAT_FIRST_MS: Final = 1_000
REPEAT_MAX_MS: Final = 5_000
#: Between two repetitions of a watch.
WATCH_EVERY_MS: Final = 5_000
#: How long it is believed that an agent would begin another run.
HOST_VALID_MS: Final = 1_000
_STORE_FULL: Final = "storage-full"


class Expired(NamedTuple):
    """No answer came before the deadline that the caller set; what happened is not known."""

    command: bytes
    #: The last refusal that asked to try again later, if there was one.
    last: Rejected | None


class WatchRefused(NamedTuple):
    """The leader does not know the run that was to be watched."""

    run: str
    refusal: Rejected


Outcome: TypeAlias = Accepted | Rejected | ShardDescribed | RunReleased | Expired | WatchRefused


class Outgoing(NamedTuple):
    """One message to publish on the command subject."""

    payload: bytes
    #: Ids of the commands in it, watches included.
    commands: tuple[bytes, ...]
    #: An agent that is to hear of it as well, by `subjects.agent_address`; empty: none.
    agent: str = ""


class _Open(msgspec.Struct):
    command: Command
    expires_ms: int
    wait_ms: int = REPEAT_FIRST_MS
    #: When it is sent again; 0 while it waits in `_ready`.
    due_ms: int = 0
    #: How often it has been sent.
    sent: int = 0
    last: Rejected | None = None


class _Watch(msgspec.Struct):
    command: WatchRun
    #: Id of the submission that the watch goes with until that is accepted; else empty.
    submission: bytes = b""
    due_ms: int = 0


class SessionCore:
    """What one client process has asked and has not been told yet."""

    def __init__(self, sender: str) -> None:
        self._sender = sender
        self._epoch = 0
        self._open: dict[bytes, _Open] = {}
        self._queued: deque[_Open] = deque()
        #: Keyed by run id.
        self._watches: dict[str, _Watch] = {}
        self._watch_of: dict[bytes, str] = {}
        #: Command ids to send with the next flush, oldest first.
        self._ready: list[bytes] = []
        #: (due, command id); an entry whose command has another `due_ms` by now is stale.
        self._dues: list[tuple[int, bytes]] = []
        self._watches_made = 0
        #: The agent that would begin another run, and until when that is believed.
        self._host, self._host_until_ms = "", 0

    @property
    def epoch(self) -> int:
        """The highest epoch seen, 0 before the first sign of a leader."""
        return self._epoch

    @property
    def open_count(self) -> int:
        """Commands that have not been answered, queued ones included."""
        return len(self._open) + len(self._queued)

    @property
    def idle(self) -> bool:
        """Whether nothing is to be sent with the next flush."""
        return not self._ready and not (self._queued and len(self._open) < WINDOW_MAX)

    # -------------------------------------------------------------- asking

    def open(self, command: Command, *, expires_ms: int, watch: bool = False) -> bool:
        """Take `command` until it is answered or `expires_ms` has come.

        Args:
            command: Anything but a `WatchRun`; see `watch`.
            expires_ms: On the caller's clock; looked at when the command is repeated.
            watch: Ask for the release of the run that a `SubmitRun` starts, in the same message.

        Returns:
            False if there are too many open commands already; nothing was taken.
        """
        if len(self._queued) >= QUEUED_MAX:
            return False
        self._queued.append(_Open(command, expires_ms))
        if watch:
            assert isinstance(command, SubmitRun), command
            self._add_watch(command.run, command.command)
        return True

    def watch(self, run: str) -> None:
        """Ask for the release of `run`, once, until it is there."""
        watch = self._watches.get(run) or self._add_watch(run, b"")
        if not watch.submission and not watch.due_ms:
            self._ready.append(watch.command.command)

    def unwatch(self, run: str) -> None:
        """Wait for the release of `run` no more."""
        watch = self._watches.pop(run, None)
        if watch is not None:
            del self._watch_of[watch.command.command]

    def give_up(self, command: bytes) -> None:
        """Wait for the answer to `command` no more. What it asked for may still happen."""
        if self._open.pop(command, None) is None:
            self._queued = deque(o for o in self._queued if o.command.command != command)

    def _add_watch(self, run: str, submission: bytes) -> _Watch:
        self.unwatch(run)
        watch = self._watches[run] = _Watch(self._watch_command(run), submission)
        return watch

    def _watch_command(self, run: str) -> WatchRun:
        # A fresh id each time that the meaning changes, so that a late refusal of an earlier
        # watch (sent when the run was not accepted yet) cannot be taken for one of this.
        self._watches_made += 1
        command = WatchRun(self._watches_made.to_bytes(16, "big"), run)
        self._watch_of[command.command] = run
        return command

    # -------------------------------------------------------------- sending

    def flush(self, now_ms: int) -> tuple[list[Outgoing], list[Expired]]:
        """Return what is to be sent now, and the commands whose time is over."""
        while self._queued and len(self._open) < WINDOW_MAX:
            opened = self._queued.popleft()
            self._open[opened.command.command] = opened
            self._ready.append(opened.command.command)
        ready, self._ready = self._ready, []
        while self._dues and self._dues[0][0] <= now_ms:
            due_ms, key = heapq.heappop(self._dues)
            if self._due_of(key) == due_ms:
                ready.append(key)
        items: list[Command] = []
        expired: list[Expired] = []
        for key in dict.fromkeys(ready):
            self._send(key, now_ms, items, expired)
        if not items:
            return [], expired
        is_early = now_ms < self._host_until_ms and self._begins_there(items)
        host = self._host if is_early else ""

        def pack(part: Sequence[Command]) -> bytes:
            return encode(ClientBatch(self._sender, tuple(part), host))

        packed = split(items, pack, limit_bytes=MESSAGE_BYTES_MAX)
        firsts = [first for first, _ in packed] + [len(items)]
        messages = [
            Outgoing(payload, tuple(item.command for item in items[first : firsts[i + 1]]), host)
            for i, (first, payload) in enumerate(packed)
        ]
        return messages, expired

    def next_due_ms(self) -> int | None:
        """Return when `flush` has something to repeat at the earliest; None: nothing is open."""
        while self._dues and self._due_of(self._dues[0][1]) != self._dues[0][0]:
            heapq.heappop(self._dues)
        return self._dues[0][0] if self._dues else None

    def _begins_there(self, items: Sequence[Command]) -> bool:
        """Say whether all that is to be sent is one new run that the known host may begin."""
        if len(items) != 2 or not isinstance(items[1], WatchRun):
            return False
        command = items[0]
        if not isinstance(command, SubmitRun) or not may_begin_early(command):
            return False
        # A repetition goes to the leader alone: the host may have begun the run already.
        return self._open[command.command].sent == 1

    def _due_of(self, key: bytes) -> int:
        opened = self._open.get(key)
        if opened is not None:
            return opened.due_ms
        run = self._watch_of.get(key)
        return 0 if run is None else self._watches[run].due_ms

    def _send(self, key: bytes, now_ms: int, items: list[Command], expired: list[Expired]) -> None:
        opened = self._open.get(key)
        if opened is None:
            run = self._watch_of.get(key)
            if run is not None:
                self._send_watch(self._watches[run], now_ms, items)
            return
        if now_ms >= opened.expires_ms:
            del self._open[key]
            self._forget_watch_of(opened.command)
            expired.append(Expired(key, opened.last))
            return
        items.append(opened.command)
        opened.sent += 1
        # An expiry before the next repetition is looked at in time as well.
        self._wait(opened, key, min(now_ms + opened.wait_ms, max(opened.expires_ms, now_ms + 1)))
        opened.wait_ms = min(2 * opened.wait_ms, REPEAT_MAX_MS)
        if isinstance(opened.command, SubmitRun):
            watch = self._watches.get(opened.command.run)
            if watch is not None and watch.submission == key:
                items.append(watch.command)

    def _send_watch(self, watch: _Watch, now_ms: int, items: list[Command]) -> None:
        if watch.submission:
            return  # It goes with the submission.
        items.append(watch.command)
        self._wait(watch, watch.command.command, now_ms + WATCH_EVERY_MS)

    def _wait(self, what: _Open | _Watch, key: bytes, due_ms: int) -> None:
        what.due_ms = due_ms
        heapq.heappush(self._dues, (due_ms, key))

    def _forget_watch_of(self, command: Command) -> None:
        if isinstance(command, SubmitRun):
            watch = self._watches.get(command.run)
            if watch is not None and watch.submission == command.command:
                self.unwatch(command.run)

    # -------------------------------------------------------------- being told

    def receive(self, message: ToClient, now_ms: int) -> list[Outcome]:
        """Take what the leader said, and return what is settled by it, each thing once."""
        if message.epoch < self._epoch:
            return []
        outcomes: list[Outcome] = []
        for reply in message.items:
            self._take(reply, now_ms, outcomes)
        self.announce(message.epoch)
        for reply in message.items:
            if isinstance(reply, RunReleased):
                self._host = reply.agent
                self._host_until_ms = now_ms + HOST_VALID_MS if reply.agent else 0
        return outcomes

    def announce(self, epoch: int) -> None:
        """Take the epoch of a leader; a new one gets everything that is unanswered again."""
        if epoch > self._epoch:
            self._epoch = epoch
            self._host_until_ms = 0
            self.repeat_all()

    def repeat_all(self) -> None:
        """Send everything that is unanswered with the next flush: messages may be lost."""
        for key, opened in self._open.items():
            opened.wait_ms = REPEAT_FIRST_MS
            if opened.due_ms:
                self._ready.append(key)
        self._ready += [w.command.command for w in self._watches.values() if w.due_ms]

    def _take(self, reply: Reply, now_ms: int, outcomes: list[Outcome]) -> None:
        if isinstance(reply, RunReleased):
            self._take_release(reply, outcomes)
            return
        opened = self._open.get(reply.command)
        if opened is None:
            self._take_watch_reply(reply, outcomes)
            return
        if isinstance(reply, Rejected):
            if reply.retry_after_ms > 0 and reply.code != _STORE_FULL:
                opened.last = reply
                self._wait(opened, reply.command, now_ms + reply.retry_after_ms)
                return
            self._forget_watch_of(opened.command)
        elif isinstance(reply, Accepted) and isinstance(opened.command, SubmitRun):
            self._submitted(opened.command, reply, now_ms)
        del self._open[reply.command]
        outcomes.append(reply)

    def _take_release(self, reply: RunReleased, outcomes: list[Outcome]) -> None:
        watch = self._watches.get(reply.run)
        if watch is None:
            return
        self.unwatch(reply.run)
        if self._open.pop(watch.submission, None) is not None:
            # The release came first: it says as well that the submission was accepted.
            outcomes.append(Accepted(watch.submission, reply.run, reply.rev))
        outcomes.append(reply)

    def _submitted(self, command: SubmitRun, reply: Accepted, now_ms: int) -> None:
        watch = self._watches.get(command.run)
        if watch is None or watch.submission != command.command:
            return
        self.unwatch(command.run)
        if reply.run in self._watches:
            return
        if reply.run == command.run:
            # The leader has had the watch in the same message; it is repeated by the clock.
            watch = self._add_watch(reply.run, b"")
            self._wait(watch, watch.command.command, now_ms + WATCH_EVERY_MS)
        else:
            # The name was taken by a run with the same body: that one is meant.
            self.watch(reply.run)

    def _take_watch_reply(
        self, reply: Accepted | Rejected | ShardDescribed, outcomes: list[Outcome]
    ) -> None:
        run = self._watch_of.get(reply.command)
        if run is None or not isinstance(reply, Rejected) or reply.retry_after_ms > 0:
            return
        if not self._watches[run].submission:
            self.unwatch(run)
            outcomes.append(WatchRefused(run, reply))
