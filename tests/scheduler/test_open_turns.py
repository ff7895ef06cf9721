"""A tick from which nothing follows yet is left open: a short run's call and end are one frame."""

from collections.abc import Sequence

from sim_shard import MS, RUN, SHARD

from millstream_events.commands import ClientBatch, RunReleased, SubmitRun, WatchRun
from millstream_events.early import RunBegun
from millstream_events.fold import fold_entry
from millstream_events.ids import new_run_id
from millstream_events.ports import LogEntry
from millstream_events.reports import AgentBatch, Hello, Report, Succeeded
from millstream_events.seal import Sealed
from millstream_events.state import ShardState, state_hash
from millstream_events.values import TaskRef
from millstream_scheduler.book import rebuild
from millstream_scheduler.config import Endpoint, SchedulerConfig
from millstream_scheduler.decide import Inputs, decide
from millstream_scheduler.turn import Turn

HOST = "lo.default.a"
TOKEN = b"begun-77"
SUBMITTED = (SubmitRun(b"c" * 16, RUN, TaskRef("env.main")), WatchRun(b"w" * 16, RUN))
ENDED = (RunBegun(RUN, TOKEN, 1), Succeeded(RUN, 0, TOKEN, None, "w", 1, 2))


class Core:
    """A leader's core that has seen short runs, and one agent."""

    def __init__(self) -> None:
        config = SchedulerConfig(endpoint=Endpoint(url=""), node="n")
        self.book = rebuild(ShardState(SHARD), config, b"s" * 32)
        for _ in range(50):
            self.book.late.ended("", 0)
        self.now_ms = 1_700_000_000_000
        self.number = 1
        self.frames: list[Sealed] = []
        self.end(self.tick(Hello(1, "default", "lo", "", (), 8, 8)))
        self.number = 1

    def tick(
        self,
        *reports: Report,
        commands: Sequence[SubmitRun | WatchRun] = (),
        host: str = "",
        opened: Turn | None = None,
    ) -> Turn:
        batches = []
        if reports:
            batches = [("default", "a", AgentBatch("i1", self.number, reports))]
            self.number += len(reports)
        asked = [ClientBatch("me.1", tuple(commands), host)] if commands else []
        now_ns = self.now_ms * MS
        turn, _ = decide(self.book, Inputs(now_ns, now_ns, batches, asked), opened)
        return turn

    def end(self, turn: Turn) -> list[Sealed]:
        frames = turn.frames()
        self.frames += frames
        return frames

    def assert_replay_is_the_same(self) -> None:
        state = ShardState(SHARD)
        for seq, frame in enumerate(self.frames, 1):
            fold_entry(state, LogEntry(seq, frame.key, frame.payload))
        assert state_hash(state) == state_hash(self.book.state)


def test_a_short_run_that_began_on_its_agent_is_one_frame() -> None:
    core = Core()
    opened = core.tick(commands=SUBMITTED, host=HOST)
    assert opened.is_open
    core.now_ms += 1
    turn = core.tick(*ENDED, opened=opened)
    assert turn is opened
    assert not turn.is_open
    (frame,) = core.end(turn)
    assert frame.key == RUN
    (released,) = turn.effects.clients_durable["me.1"]
    assert isinstance(released, RunReleased)
    core.assert_replay_is_the_same()


def test_a_tick_is_left_open_once_only() -> None:
    core = Core()
    opened = core.tick(commands=SUBMITTED, host=HOST)
    other = new_run_id(now_ms=core.now_ms, random_bits=99)
    more = (SubmitRun(b"d" * 16, other, TaskRef("env.main")), WatchRun(b"x" * 16, other))
    turn = core.tick(commands=more, host=HOST, opened=opened)
    assert not turn.is_open
    assert len(core.end(turn)) == 2
    core.assert_replay_is_the_same()


def test_a_tick_whose_client_is_to_be_answered_at_once_is_not_left_open() -> None:
    core = Core()
    core.book.late.ended("", 10**12)
    assert not core.tick(commands=SUBMITTED, host=HOST).is_open
    core = Core()
    assert not core.tick(commands=SUBMITTED[:1], host=HOST).is_open


def test_a_tick_in_which_something_else_happens_is_not_left_open() -> None:
    core = Core()
    assert not core.tick(*ENDED, commands=SUBMITTED, host=HOST).is_open
    core = Core()
    assert not core.tick(commands=SUBMITTED).is_open


def test_what_is_left_open_ends_with_the_next_tick_whatever_comes() -> None:
    core = Core()
    opened = core.tick(commands=SUBMITTED, host=HOST)
    turn = core.tick(opened=opened)
    assert not turn.is_open
    assert len(core.end(turn)) == 1
    core.assert_replay_is_the_same()
