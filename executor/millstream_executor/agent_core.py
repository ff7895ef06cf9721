"""The agent's decisions, without I/O and without a clock.

The shell feeds in what it hears (`on_...`), calls `take` once at the end of each tick of its
loop, and carries out what `take` returns. Times are monotonic nanoseconds.

What a crash of the leader, of a worker or of the link costs is decided here: reports are kept
until acknowledged (`outbox`), orders are recomputed by the leader after a `Hello`, and a child's
release that was lost on its way down is asked for again (`parking.ask_again`).
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from millstream_events.beats import BEAT_NS
from millstream_events.commands import ClientBatch
from millstream_events.early import EARLY_RUNS
from millstream_events.ids import Digest
from millstream_events.ports import OutputBatch, OutputLine
from millstream_events.reports import (
    UNKNOWN_ACTION,
    Adopted,
    BeginNothing,
    Cancel,
    Credit,
    Diverged,
    Forget,
    Goodbye,
    Held,
    Hello,
    JournalPage,
    Lost,
    Notified,
    Notify,
    OpenCondition,
    Order,
    RecordTrace,
    Refuse,
    Release,
    Repeat,
    Report,
    SayHello,
    SetTimer,
    StartAction,
    ToAgent,
    Work,
)
from millstream_executor import dispatching, eager, early_runs, keeping, parking, stopping
from millstream_executor.agent_state import AgentState, CoreSettings
from millstream_executor.crew import CrewMember
from millstream_executor.effects import (
    BundleResult,
    CallWebhook,
    EnvironmentResult,
    FetchBlob,
    Outgoing,
    PushBlob,
    SendUp,
    ShipOutput,
)
from millstream_executor.fleet_types import WorkerExit
from millstream_executor.held import Stage, claim_of
from millstream_executor.link import (
    AttemptBegan,
    AttemptEnded,
    CallChild,
    CallCondition,
    CallTimer,
    CancelAttempt,
    DropChild,
    ForwardCondition,
    ForwardDivergence,
    ForwardTrace,
    FromWorker,
    Keep,
    Pong,
    Printed,
    Ready,
    StoreBlob,
    ToWorker,
    Unusable,
    WantBlob,
    WantJournal,
)
from millstream_executor.outbox import fits_one_message

#: Credit is repeated in each of these, changed or not: it is the heartbeat.
HEARTBEAT_NS: Final = BEAT_NS
#: Ticks are this far apart while something is under way, and while nothing is.
BUSY_TICK_NS: Final = 50_000_000
IDLE_TICK_NS: Final = HEARTBEAT_NS
#: `SayHello` is heeded again after this long: it comes once for each message underway.
_HELLO_NS_MIN: Final = 200_000_000
#: Attempts in one `Hello`, so that it fits a message; what an agent holds beyond this is run
#: again after a change of leader.
_HOLDING_MAX: Final = 16_000


class AgentCore:
    """One agent's state machine."""

    def __init__(
        self, settings: CoreSettings, *, now_ns: int, former: Sequence[Report] = ()
    ) -> None:
        """Start under a new incarnation.

        Args:
            settings: Who the agent is and what it may hold.
            now_ns: Monotonic time.
            former: Outcomes that the former incarnation spooled; they are reported first, so
                that the leader knows of them before `Hello` says what is held now.
        """
        self._state = state = AgentState(settings)
        for item in former:
            state.outbox.append(item, now_ns)
        state.repeat_from = 1 if former else 0
        state.hello_due = True
        self._credit_ns = self._asked_ns = now_ns
        self._hello_ns = 0

    @property
    def state(self) -> AgentState:
        """What the core knows; to be read only."""
        return self._state

    @property
    def tick_ns(self) -> int:
        """How soon `on_tick` should be called again; `IDLE_TICK_NS`: at the next beat."""
        state = self._state
        if state.held_back:
            return eager.HOLD_NS
        counts = state.counts
        busy = counts[Stage.RUNNING] or counts[Stage.QUEUED] or state.stopping
        return BUSY_TICK_NS if busy or state.fresh_parks or state.draining else IDLE_TICK_NS

    # ------------------------------------------------------------------ from the leader

    def on_orders(self, message: ToAgent, now_ns: int) -> None:
        """Take in one message of a leader; what a deposed one still sends is dropped."""
        state = self._state
        if message.epoch < state.epoch or message.incarnation != state.settings.incarnation:
            return
        if message.epoch > state.epoch:
            # The very first leader has answered our `Hello`: no need for another one.
            if state.epoch:
                self._introduce()
            state.epoch = message.epoch
        trip_ns = state.outbox.acknowledge(message.acked, now_ns)
        if state.keeping:
            keeping.confirm(state)
        if trip_ns:
            if message.items:  # By itself an acknowledgement has waited for company: no trip.
                state.pace.answered(trip_ns)
            state.trusted_ns = max(state.trusted_ns, now_ns - trip_ns)
        for order in message.items:
            self._order(order, now_ns)

    def on_submission(self, batch: ClientBatch, now_ns: int) -> None:
        """Take in what a client has sent to the leader and to this agent."""
        early_runs.hear(self._state, batch, now_ns)

    def on_leader(self, epoch: int) -> None:
        """Take in a leader's announcement."""
        state = self._state
        if epoch > state.epoch:
            state.epoch = epoch
            self._introduce()

    def on_reconnect(self) -> None:
        """Note that messages of both directions may have been lost."""
        self._introduce()

    def _introduce(self) -> None:
        state = self._state
        state.hello_due = True
        state.ask_all_due = True
        state.repeat_from = state.outbox.first

    def _order(self, order: Order, now_ns: int) -> None:
        state = self._state
        match order:
            case Work():
                dispatching.accept(state, order, now_ns)
            case Release():
                parking.release(state, order, now_ns)
            case Refuse():
                parking.refuse(state, order, now_ns)
            case Cancel():
                stopping.cancel(state, order, now_ns)
            case Forget():
                attempt = state.held.get(order.token)
                if attempt is not None:
                    stopping.stop_silently(state, attempt, "forgotten", now_ns)
            case JournalPage():
                parking.journal_page(state, order)
            case Repeat():
                start = max(order.start, state.outbox.first)
                state.repeat_from = min(state.repeat_from or start, start)
            case Adopted():
                eager.adopted(state, order)
            case BeginNothing():
                eager.withdraw(state, order.run)
            case Notify():
                state.effects.append(CallWebhook(order))
            case SayHello():
                if now_ns - self._hello_ns > _HELLO_NS_MIN:
                    self._introduce()

    # ------------------------------------------------------------------ from the workers

    def on_worker(self, key: str, messages: Sequence[FromWorker], now_ns: int) -> None:
        """Take in what a worker said; a worker that is being killed is still listened to."""
        member = self._state.crew.members.get(key)
        if member is None:
            return
        for message in messages:
            self._heard(member, message, now_ns)

    def on_worker_exit(self, key: str, end: WorkerExit, now_ns: int) -> None:
        """Take in that a worker's process has ended, or could not be started."""
        stopping.worker_gone(self._state, key, end, now_ns)

    def on_bundle(self, digest: Digest, result: BundleResult, now_ns: int) -> None:
        """Take in the answer to `FetchBundle`."""
        dispatching.bundle_fetched(self._state, digest, result, now_ns)

    def on_notified(self, report: Notified, now_ns: int) -> None:
        """Take in what came of a webhook."""
        self._state.report(report, now_ns)

    def on_environment(self, digest: Digest, result: EnvironmentResult, now_ns: int) -> None:
        """Take in the answer to `MakeEnvironment`."""
        dispatching.environment_made(self._state, digest, result, now_ns)

    def on_progress(self, digest: Digest, lines: tuple[OutputLine, ...]) -> None:
        """Show how an environment is built to everybody who waits for it."""
        dispatching.show_progress(self._state, digest, lines)

    def tell_worker(self, key: str, message: ToWorker) -> None:
        """Pass the answer to `FetchBlob` or `PushBlob` on, if the worker is still there."""
        member = self._state.crew.members.get(key)
        if member is not None and not member.killed:
            self._state.tell(member, message)

    def _heard(self, member: CrewMember, message: FromWorker, now_ns: int) -> None:
        state = self._state
        match message:
            case AttemptEnded():
                self._ended(message, now_ns)
            case AttemptBegan():
                attempt = state.held.get(message.token)
                if attempt is not None:
                    attempt.began_ns = now_ns
                    attempt.started_ns = message.started_ns
                    state.fresh_starts[message.token] = attempt
            case CallChild():
                if not self._called(message.call, now_ns, message.begun) and message.begun:
                    state.tell(member, CancelAttempt(message.begun, "forgotten"))
            case CallTimer():
                self._called(message.timer, now_ns)
            case CallCondition():
                self._called(message.opening, now_ns)
            case ForwardCondition():
                self._forwarded(message.opening, now_ns)
            case ForwardTrace():
                self._forwarded(message.trace, now_ns)
            case ForwardDivergence():
                self._forwarded(message.finding, now_ns)
            case Keep():
                keeping.keep(state, member, message, now_ns)
            case Printed():
                self._printed(message, now_ns)
            case DropChild() | WantJournal():
                self._asked(message, now_ns)
            case _:
                self._heard_of_worker(member, message, now_ns)

    def _called(
        self, item: StartAction | SetTimer | OpenCondition, now_ns: int, begun: bytes = b""
    ) -> bool:
        """Forward a call; say whether whoever calls is still to be heard."""
        attempt = self._state.held.get(item.token)
        if attempt is None or attempt.muted:
            return False
        parking.call(self._state, attempt, item, now_ns, begun)
        return True

    def _forwarded(self, item: RecordTrace | OpenCondition | Diverged, now_ns: int) -> None:
        attempt = self._state.held.get(item.token)
        if attempt is not None and not attempt.muted:
            self._state.report(item, now_ns)

    def _heard_of_worker(
        self,
        member: CrewMember,
        message: Ready | Pong | Unusable | WantBlob | StoreBlob,
        now_ns: int,
    ) -> None:
        """Take in what concerns a worker as a whole."""
        state = self._state
        match message:
            case WantBlob():
                state.effects.append(FetchBlob(member.key, Digest(message.digest)))
            case StoreBlob():
                digest = Digest(message.digest)
                state.effects.append(PushBlob(member.key, digest, message.size_bytes))
            case Ready():
                member.ready = True
                member.pid = message.pid
                for waiting in member.waiting:
                    state.tell(member, waiting)
                member.waiting.clear()
            case Pong():
                stopping.ponged(member, message, now_ns)
            case Unusable():
                stopping.worker_unusable(state, member, message.error, now_ns)

    def _asked(self, message: DropChild | WantJournal, now_ns: int) -> None:
        attempt = self._state.held.get(message.token)
        if attempt is None:
            return
        if isinstance(message, DropChild):
            parking.drop(self._state, attempt, message.id, now_ns, keep=message.keep)
        else:
            parking.want_journal(self._state, attempt, message.start)

    def _ended(self, message: AttemptEnded, now_ns: int) -> None:
        state = self._state
        attempt = state.held.get(message.token)
        if attempt is None:
            return
        if not attempt.has_parked:
            state.pace.ran(message.ended_ns - message.started_ns)
        state.finish(attempt, stopping.outcome(attempt, message), now_ns)

    def _printed(self, message: Printed, now_ns: int) -> None:
        state = self._state
        attempt = state.held.get(message.token)
        work = None if attempt is None else attempt.work
        action = state.over.get(message.token) if work is None else (work.run, work.action)
        if action is None:
            return
        if action[1] == UNKNOWN_ACTION:
            if eager.keep_printed(state, message.token, message.lines) and attempt is not None:
                # The answer to this report brings the ordinal.
                parking.report_started(state, attempt, now_ns)
            return
        state.effects.append(ShipOutput(OutputBatch(*action, message.lines)))

    # ------------------------------------------------------------------ time and leaving

    def on_tick(self, now_ns: int) -> None:
        """Do what is due by the clock. Called about every `tick_ns`; late calls do no harm."""
        state = self._state
        state.settling = now_ns < state.settle_until_ns
        parking.report_slow(state, now_ns)
        dispatching.give_back_stale(state, now_ns)
        stopping.escalate(state, now_ns)
        if now_ns // HEARTBEAT_NS > self._asked_ns // HEARTBEAT_NS:
            self._asked_ns = now_ns
            parking.ask_again(state, now_ns, everything=False)
            for member in state.crew.overdue(now_ns):
                state.dismiss(member, "idle", now_ns)

    def leave(self, now_ns: int) -> None:
        """Take no more work, give back what has not begun, and let the rest finish."""
        state = self._state
        if not state.leaving:
            state.leaving = True
            dispatching.give_back_queued(state, "draining", now_ns)
            state.hello_due = True

    def say_goodbye(self, now_ns: int) -> None:
        """Give up what is still held, and sign off."""
        state = self._state
        for attempt in list(state.held.values()):
            work = attempt.work
            state.finish(attempt, Lost(work.run, work.action, work.token, "agent-left"), now_ns)
        for member in list(state.crew.members.values()):
            state.kill(member, "the agent leaves")
        state.report(Goodbye(state.credit.generation), now_ns)

    # ------------------------------------------------------------------ outwards

    def take(self, now_ns: int) -> Outgoing:
        """Fill free slots, grant credit, and return everything that is to be done now."""
        state = self._state
        dispatching.fill_slots(state, now_ns)
        ups = self._reports(now_ns)
        outgoing = Outgoing(state.effects, state.messages, ups)
        state.effects = []
        state.messages = {}
        return outgoing

    def _reports(self, now_ns: int) -> list[SendUp]:
        state = self._state
        if eager.may_wait(state, now_ns):
            return []
        state.held_back = 0
        outbox = state.outbox
        ups: list[SendUp] = []
        first = outbox.next - len(state.reports)
        numbered: Sequence[Report] = state.reports
        if state.repeat_from:
            first, numbered = outbox.since(state.repeat_from)
            outbox.repeated(now_ns)
            state.repeat_from = 0
            if state.hello_due and not fits_one_message(numbered):
                ups.append(SendUp(first, (self._provisional(numbered),)))
        elif (due := outbox.due(now_ns)) is not None:
            ups.append(SendUp(due[0], tuple(due[1])))
        notes = self._notes(now_ns)
        if numbered or notes:
            ups.append(SendUp(first, (*numbered, *notes)))
        state.reports = []
        return ups

    def _notes(self, now_ns: int) -> list[Report]:
        """Return what has no number, `Hello` first and credit last."""
        state = self._state
        credit = state.credit
        hello: Hello | None = None
        if state.hello_due:
            credit.open()
        free = state.free if now_ns >= state.no_room_until_ns else 0
        changed = credit.grow(free)
        if state.hello_due:
            state.hello_due = False
            self._hello_ns = self._credit_ns = now_ns
            hello = self._hello()
        if state.ask_all_due:
            state.ask_all_due = False
            state.notes.clear()
            parking.ask_again(state, now_ns, everything=True)
        notes = state.notes
        state.notes = []
        if hello is not None:
            return [hello, *notes]
        if changed or now_ns // HEARTBEAT_NS > self._credit_ns // HEARTBEAT_NS:
            self._credit_ns = now_ns
            notes.append(Credit(credit.generation, credit.granted, state.crew.pids))
        return notes

    def _provisional(self, numbered: Sequence[Report]) -> Hello:
        """Return an introduction to go ahead of reports that take several messages.

        A leader that does not know the agent drops every message before the one with the
        `Hello`, and gives up what is not in `holding`. So this one claims whatever the reports
        are about as well; the exact one follows after them, under the next generation.
        """
        self._state.credit.open()
        hello = self._hello()
        held = {claim.token: claim for claim in hello.holding}
        for item in numbered:
            claim = claim_of(item)
            if claim is not None:
                held.setdefault(claim.token, claim)
        return msgspec.structs.replace(hello, holding=tuple(held.values())[:_HOLDING_MAX])

    def _hello(self) -> Hello:
        state = self._state
        settings = state.settings
        holding = tuple(
            Held(
                a.work.run,
                a.work.action,
                a.work.attempt,
                a.token,
                a.call_number >= state.outbox.first,
            )
            for a in state.held.values()
            if not a.muted
        )[:_HOLDING_MAX]
        return Hello(
            state.credit.generation,
            settings.pool,
            settings.region,
            settings.cluster,
            settings.labels,
            settings.slots,
            state.credit.granted,
            holding,
            settings.pid,
            settings.memory_bytes,
            features=(EARLY_RUNS,),
            capacity=settings.capacity,
        )
