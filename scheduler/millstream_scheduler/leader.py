"""The leader's tick: drain, decide, append, act. The loop decides nothing itself.

A tick drains what came in, lets `decide` decide, seals the frames and hands them to the
`Appender`, sends what may go at once, and keeps the rest behind the acknowledgement of the
tick's last frame. With too much unacknowledged it waits: load makes frames larger, not more
numerous (design: architecture.md 2.4).
"""

import asyncio
import re
import secrets
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from millstream_events import subjects
from millstream_events.beats import until_beat_ns
from millstream_events.codec import decoder_of
from millstream_events.commands import (
    AnnotateRun,
    ClientBatch,
    Command,
    Rejected,
    Reply,
    SubmitRun,
)
from millstream_events.endpoint import Endpoint
from millstream_events.gates import Gate
from millstream_events.logs import get_logger
from millstream_events.model import ShardEvent
from millstream_events.ports import BlobStore, Bus, Clock, EventLog
from millstream_events.reports import AgentBatch
from millstream_events.state import RunState, collapse
from millstream_scheduler.appender import Appender
from millstream_scheduler.awaiting import AwaitingSources
from millstream_scheduler.blob_look import BlobLook
from millstream_scheduler.book import Book
from millstream_scheduler.decide import LOOK_ROUND_MS, Inputs, decide, go_on
from millstream_scheduler.effects import Effects
from millstream_scheduler.speaker import Speaker
from millstream_scheduler.turn import Turn

log = get_logger("scheduler")

#: Batches that wait for a tick; further ones are dropped, and their senders repeat them.
_INBOX_BATCHES_MAX: Final = 65_536
#: One tick takes at most so many batches of reports, none behind so many reports, and at most so
#: many batches of so many commands, so that it stays short and the lease is renewed between ticks.
_BATCHES_MAX: Final = 16
_REPORTS_MAX: Final = 4_096
_COMMANDS_MAX: Final = 64
#: Longest that a tick is kept open for the rest of it.
_OPEN_MS: Final = 2
_FULL_RETRY_MS: Final = 500
#: Longest pause between two looks at silences.
_REST_MS_MAX: Final = 1_100
#: Under which the leader asks itself; nobody listens to the answers.
_OWN_SENDER: Final = "leader.notes"
#: `<who>.<proc>`: it becomes part of a subject.
_SENDER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64}")


class _Gated(msgspec.Struct):
    """Effects that wait until the log is durable up to `gate_seq`."""

    gate_seq: int
    effects: Effects
    finished: list[str]
    #: Of each agent to be acknowledged, the incarnation whose reports these were: numbers of
    #: one that has been replaced since would make the new one forget what is not durable.
    incarnations: dict[str, str]
    #: The only receiver has been told already, behind a gate that the log opens.
    told: bool = False


class Leader:
    """Leads one shard from an elected epoch until it is stopped or deposed."""

    #: Called with each run whose end has become durable.
    on_run_over: Callable[[RunState], None] | None = None

    def __init__(
        self,
        book: Book,
        event_log: EventLog,
        bus: Bus,
        clock: Clock,
        blobs: BlobStore,
        *,
        endpoint: Endpoint,
        node: str,
    ) -> None:
        self._book = book
        self._state = book.state
        self._bus = bus
        self._clock = clock
        self._endpoint, self._node = endpoint, node
        self._loop = asyncio.get_running_loop()
        #: A tick of which the rest is about to come.
        self._open_turn: Turn | None = None
        #: Resolved with the reason when this leader has stopped.
        self.deposed: asyncio.Future[str] = self._loop.create_future()
        self._speaker = Speaker(book, bus, endpoint)
        self._log = event_log
        self._appender = Appender(
            event_log,
            epoch=book.state.epoch,
            durable_seq=book.state.seq,
            on_durable=self._on_durable,
            on_doubt=self._on_doubt,
            on_deposed=self._depose,
        )
        self._reports: list[tuple[str, str, AgentBatch]] = []
        self._commands: list[ClientBatch] = []
        self._decode_report = decoder_of(AgentBatch)
        self._decode_command = decoder_of(ClientBatch)
        self._notes: list[ShardEvent] = []
        self._awaiting = AwaitingSources(book, event_log, self._hear_again)
        self._blobs = BlobLook(blobs, self._wake)
        self._gated: deque[_Gated] = deque()
        self._scheduled = False
        #: A tick was due and had to wait for the log.
        self._held_back = False
        #: Unix time of the last tick, and the monotonic time at which it was read.
        self._ticked = (book.state.ts_ns, clock.monotonic_ns())
        self._timer: asyncio.TimerHandle | None = None
        #: When it rings, by the clock of the tick that set it.
        self._timer_ms = 0
        self._announcer: asyncio.TimerHandle | None = None
        self._next_look_ns = 0
        #: The first tick takes up what the former leader left half done.
        self._took_over, self._reconnected = True, False
        self._adoption_ends_ns = clock.monotonic_ns() + book.config.adopt_ms * 1_000_000
        self._ends: list[Callable[[], None]] = []
        self.events_written = 0
        #: Messages that could not be read, or had no room in the inbox.
        self.dropped = 0

    # -------------------------------------------------------------- life

    def start(self) -> None:
        """Listen, announce the epoch, and tick."""
        ns, shard = self._endpoint.namespace, self._endpoint.shard_name
        self._ends = [
            self._bus.subscribe(subjects.report_subject(ns, shard, "*", "*"), self._on_report),
            self._bus.subscribe(subjects.command_subject(ns, shard, ">"), self._on_command),
            self._bus.on_reconnect(self._on_reconnect),
        ]
        self._announce()
        self._wake()

    def stop(self, why: str = "stopped") -> None:
        """Stop listening and ticking; appends in flight are left to their fate."""
        for end in self._ends:
            end()
        self._ends = []
        self._appender.stop()
        self._speaker.stop()
        self._awaiting.stop()
        self._blobs.stop()
        for timer in (self._timer, self._announcer):
            if timer is not None:
                timer.cancel()
        if not self.deposed.done():
            self.deposed.set_result(why)

    def note(self, event: ShardEvent) -> None:
        """Have an event of the shard itself recorded by the next tick."""
        self._notes.append(event)
        self._wake()

    def annotate(self, run: str, key: str, value: str) -> None:
        """Have a note recorded with a run by the next tick."""
        if self.deposed.done():
            return
        note = AnnotateRun(secrets.token_bytes(16), run, ((key, value),), self._node)
        self._commands.append(ClientBatch(_OWN_SENDER, (note,)))
        self._wake()

    @property
    def kept(self) -> int:
        """How many runs, and actions of open ones, the state holds."""
        return len(self._state.runs) + sum(map(len, self._book.depths.values()))

    @property
    def quiet(self) -> bool:
        """Whether nothing is unacknowledged."""
        return self._appender.quiet

    @property
    def durable_seq(self) -> int:
        """Sequence up to which everything is known to be durable."""
        return self._appender.durable_seq

    def _announce(self) -> None:
        self._speaker.announce(self._node)
        beat_s = until_beat_ns(self._clock.monotonic_ns()) / 1e9
        self._announcer = self._loop.call_later(beat_s, self._announce)

    def _depose(self, why: str) -> None:
        log.warning("leader_deposed", shard=self._state.shard, why=why)
        self.stop(why)

    # -------------------------------------------------------------- in

    def _on_report(self, subject: str, payload: bytes) -> None:
        batch = self._decode_report(payload)
        if batch is None or len(self._reports) >= _INBOX_BATCHES_MAX:
            self.dropped += 1
            return
        pool, agent = subjects.sender_of(subject)
        self._reports.append((pool, agent, batch))
        self._wake()

    def _on_reconnect(self) -> None:
        self._reconnected = True
        self._wake()

    def _on_command(self, _: str, payload: bytes) -> None:
        batch = self._decode_command(payload)
        if (
            batch is None
            or len(self._commands) >= _INBOX_BATCHES_MAX
            or not _SENDER.fullmatch(batch.sender)
        ):
            self.dropped += 1
            return
        items = self._awaiting.set_aside(batch)
        for start in range(0, len(items), _COMMANDS_MAX):
            part = items[start : start + _COMMANDS_MAX]
            self._commands.append(ClientBatch(batch.sender, part, batch.agent))
        self._wake()

    def _hear_again(self, waiting: list[ClientBatch]) -> None:
        self._commands += waiting
        self._wake()

    def _refuse_submissions(self) -> None:
        # With a full store no tick decides, so new runs are refused here, and nothing else. A
        # run that has been decided already waits for room: it must not be called refused.
        kept: list[ClientBatch] = []
        for batch in self._commands:
            rest: list[Command] = []
            refused: list[Reply] = []
            for item in batch.items:
                if isinstance(item, SubmitRun) and item.run not in self._state.runs:
                    refused.append(
                        Rejected(
                            item.command, "storage-full", "the log's store is full", _FULL_RETRY_MS
                        )
                    )
                else:
                    rest.append(item)
            if refused:
                self._speaker.tell_client(batch.sender, refused)
            if rest:
                kept.append(ClientBatch(batch.sender, tuple(rest), batch.agent))
        self._commands = kept
        self._awaiting.forget()

    # -------------------------------------------------------------- the tick

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._scheduled = False
        if self.deposed.done():
            return
        self._held_back = (
            self._appender.in_doubt or len(self._gated) >= self._book.config.ticks_in_flight_max
        )
        if self._held_back:
            if self._appender.full:
                self._refuse_submissions()
            return  # The next acknowledgement wakes us.
        try:
            self._decide()
        except Exception as exc:
            # What was folded and not appended would make every later frame a lie, so the
            # state is dropped; whoever leads next starts from the log.
            log.error("tick_failed", shard=self._state.shard, exc_info=exc)
            self._depose(f"a tick failed: {exc!r}")

    def _decide(self) -> None:
        monotonic_ns = self._clock.monotonic_ns()
        if self._book.endings:
            turn, more = go_on(self._book, monotonic_ns=monotonic_ns)
        else:
            turn, more = decide(self._book, self._heard(monotonic_ns), self._open_turn)
        self._open_turn = turn if turn.is_open else None
        if not turn.is_open:
            self._carry_out(turn)
        if more or self._reports or self._commands:
            self._wake()
        self._set_timer(turn.now_ms, monotonic_ns)

    def _heard(self, monotonic_ns: int) -> Inputs:
        """Return what the next tick decides upon."""
        now_ns = self._hybrid_ns(monotonic_ns)
        reports = self._take_reports()
        # Who has said something that waits here is not silent.
        look_round = monotonic_ns >= self._next_look_ns and not self._reports
        if look_round:
            self._next_look_ns = monotonic_ns + LOOK_ROUND_MS * 1_000_000
        adoption_over = 0 < self._adoption_ends_ns <= monotonic_ns
        if adoption_over:
            self._adoption_ends_ns = 0
        inputs = Inputs(
            now_ns,
            monotonic_ns,
            reports,
            self._commands[:_BATCHES_MAX],
            self._awaiting.take(self._commands[:_BATCHES_MAX]),
            self._notes,
            self._blobs.take(),
            overloaded=self._appender.pending_bytes > self._book.config.bytes_in_flight_max,
            node=self._node,
            look_round=look_round,
            took_over=self._took_over,
            reconnected=self._reconnected,
            adoption_over=adoption_over,
        )
        del self._commands[:_BATCHES_MAX]
        self._notes = []
        self._took_over = self._reconnected = False
        return inputs

    def _take_reports(self) -> list[tuple[str, str, AgentBatch]]:
        taken = items = 0
        for _, _, batch in self._reports[:_BATCHES_MAX]:
            taken += 1
            items += len(batch.items)
            if items >= _REPORTS_MAX:
                break
        reports = self._reports[:taken]
        del self._reports[:taken]
        return reports

    def _hybrid_ns(self, monotonic_ns: int) -> int:
        """Return Unix time that passes steadily even when the clock is set back."""
        last_ns, read_ns = self._ticked
        now_ns = max(self._clock.now_ns(), last_ns + monotonic_ns - read_ns)
        self._ticked = (now_ns, monotonic_ns)
        return now_ns

    def _carry_out(self, turn: Turn) -> None:
        """Append the tick's frames, then act on them: at once, or behind the last of them."""
        frames = turn.frames()
        effects = turn.effects
        gate: Gate | None = None
        if frames:
            self.events_written += sum(frame.events for frame in frames)
            if len(frames) == 1 and self._appender.quiet:
                gate = self._speaker.say_ahead(effects, self._log, self._state.seq)
            self._appender.append(frames, gate)
        self._blobs.look_for(effects.blobs)
        for agent, orders in effects.agents_now.items():
            self._speaker.tell_agent(agent, orders)
        for client, replies in effects.clients_now.items():
            self._speaker.tell_client(client, replies)
        finished, self._book.finished = self._book.finished, []
        if frames or effects.agents_durable or effects.clients_durable or effects.acks:
            incarnations = {
                agent: seat.incarnation
                for agent in effects.acks
                if (seat := self._book.seats.get(agent)) is not None
            }
            told = gate is not None
            self._gated.append(_Gated(self._state.seq, effects, finished, incarnations, told))
            self._release_durable()
        self._bus.flush()

    def _set_timer(self, now_ms: int, monotonic_ns: int) -> None:
        wait_ms = LOOK_ROUND_MS if self._book.classes else _REST_MS_MAX
        next_ms = self._book.next_ms()
        if next_ms is not None:
            wait_ms = min(wait_ms, max(0, next_ms - now_ms))
        if self._open_turn is not None:
            wait_ms = min(wait_ms, _OPEN_MS)
        if self._timer is not None:
            if self._timer_ms <= now_ms + wait_ms:
                return  # It rings early enough, and a tick too many does no harm.
            self._timer.cancel()
        elif wait_ms > LOOK_ROUND_MS:
            wait_ms = min(wait_ms, self._rest_ms(monotonic_ns))
        self._timer_ms = now_ms + wait_ms
        self._timer = self._loop.call_later(wait_ms / 1000, self._ring)

    def _rest_ms(self, monotonic_ns: int) -> int:
        """Return for how long nobody has to be looked at, while no work waits."""
        lost_ns = self._book.config.agent_lost_ms * 1_000_000
        dues = [seat.heard_ns + lost_ns for seat in self._book.seats.values()]
        if self._adoption_ends_ns:
            dues.append(self._adoption_ends_ns)
        due_ns = min([monotonic_ns + until_beat_ns(monotonic_ns), *dues])
        # A moment later than due, for what is due after that time and not at it.
        return max(LOOK_ROUND_MS, (due_ns - monotonic_ns) // 1_000_000 + 2)

    def _ring(self) -> None:
        self._timer = None
        monotonic_ns = self._clock.monotonic_ns()
        next_ms, now_ms = self._book.next_ms(), self._hybrid_ns(monotonic_ns) // 1_000_000
        is_due = next_ms is not None and next_ms <= now_ms
        adoption_over = 0 < self._adoption_ends_ns <= monotonic_ns
        is_due |= adoption_over or self._open_turn is not None
        if is_due or monotonic_ns >= self._next_look_ns:
            self._wake()
        else:
            self._set_timer(now_ms, monotonic_ns)  # What it was set for has ended meanwhile.

    # -------------------------------------------------------------- out

    def _on_doubt(self) -> None:
        for gated in self._gated:
            gated.told = False

    def _on_durable(self) -> None:
        self._release_durable()
        self._bus.flush()
        if self._held_back or self._reports or self._commands or len(self._book.classes):
            self._wake()

    def _release_durable(self) -> None:
        """Send what has become true for good, and let go of runs that are over."""
        durable_seq = self._appender.durable_seq
        while self._gated and self._gated[0].gate_seq <= durable_seq:
            gated = self._gated.popleft()
            effects = gated.effects
            for agent in dict.fromkeys((*effects.agents_durable, *effects.acks)):
                seat = self._book.seats.get(agent)
                same = seat is not None and seat.incarnation == gated.incarnations.get(agent)
                orders = None if gated.told else effects.agents_durable.get(agent)
                acked = effects.acks.get(agent) if same else None
                if orders:
                    self._speaker.tell_agent(agent, orders, acked)
                elif acked is not None:
                    heard = gated.told and agent in effects.agents_durable
                    self._speaker.acknowledge(agent, acked, heard=heard)
            if not gated.told:
                for client, replies in effects.clients_durable.items():
                    self._speaker.tell_client(client, replies)
            for run_id in gated.finished:
                run = self._state.runs.get(run_id)
                if run is not None and run.finished:
                    if self.on_run_over is not None:
                        self.on_run_over(run)
                    collapse(run)
