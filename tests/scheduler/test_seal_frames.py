"""Sealing: what one tick decided becomes frames that fold to exactly the writer's state."""

import pytest

from millstream_events import model as m
from millstream_events.codec import decode_frame
from millstream_events.fold import apply, apply_shard, fold_entry
from millstream_events.ids import chain_hash, new_run_id
from millstream_events.model import FRAME_BYTES_MAX, FRAME_EVENTS_MAX, Frame
from millstream_events.ports import LogEntry
from millstream_events.seal import Sealed, seal
from millstream_events.state import RunState, ShardState, state_hash
from millstream_events.subjects import SHARD_KEY
from millstream_events.values import TaskRef

SHARD = "lo00"
RUNS = [new_run_id(now_ms=1_700_000_000_000 + n, random_bits=n) for n in range(3)]


class Writer:
    """A leader's state, and the log that it writes."""

    def __init__(self) -> None:
        self.state = ShardState(SHARD, epoch=1)
        self.log: list[LogEntry] = []
        elected = m.LeaderElected(0, epoch=1, node="n")
        apply_shard(self.state, elected)
        self.seal({}, [elected])

    def write(
        self, events: dict[str, list[m.Event]], own: list[m.Event] | None = None
    ) -> list[Sealed]:
        for run_id, each in events.items():
            run = self.state.runs.setdefault(run_id, RunState(run_id))
            for event in each:
                apply(self.state, run, event, max(5, self.state.ts_ns))
        for event in own or []:
            apply_shard(self.state, event)
        return self.seal(events, own or [])

    def seal(self, events: dict[str, list[m.Event]], own: list[m.Event]) -> list[Sealed]:
        before = self.state.seq
        frames = seal(self.state, events, own, now_ns=5)
        assert [frame.expected_seq for frame in frames] == list(range(before, self.state.seq))
        for frame in frames:
            self.log.append(LogEntry(len(self.log) + 1, frame.key, frame.payload))
        return frames

    def check(self) -> None:
        replayed = ShardState(SHARD)
        for entry in self.log:
            assert fold_entry(replayed, entry)
        assert state_hash(replayed) == state_hash(self.state)
        assert (replayed.seq, replayed.number) == (self.state.seq, self.state.number)


def created(run: str) -> m.Event:
    return m.RunCreated(0, run=run, task=TaskRef("t"))


def notes(count: int, size: int = 0) -> list[m.Event]:
    return [m.RunAnnotated(0, entries=((str(n), "x" * size),)) for n in range(count)]


def frames_of(sealed: list[Sealed]) -> list[Frame]:
    frames = [decode_frame(each.payload, key=each.key, seq=1) for each in sealed]
    return [frame for frame in frames if isinstance(frame, Frame)]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (0, [1]),
        (FRAME_EVENTS_MAX - 1, [512]),
        (FRAME_EVENTS_MAX, [512, 1]),
        (3 * FRAME_EVENTS_MAX, [512, 512, 512, 1]),
    ],
)
def test_a_frame_holds_at_most_512_events(count: int, sizes: list[int]) -> None:
    writer = Writer()
    sealed = writer.write({RUNS[0]: [created(RUNS[0]), *notes(count)]})
    assert [each.events for each in sealed] == sizes
    assert [len(frame.events) for frame in frames_of(sealed)] == sizes
    writer.check()


@pytest.mark.parametrize("size", [600, 5_000, 70_000, 200_000])
def test_a_frame_holds_at_most_256_kib_of_several_events(size: int) -> None:
    writer = Writer()
    sealed = writer.write({RUNS[0]: [created(RUNS[0]), *notes(600_000 // size, size)]})
    assert len(sealed) > 1
    assert all(len(each.payload) <= FRAME_BYTES_MAX for each in sealed)
    assert sum(each.events for each in sealed) == 1 + 600_000 // size
    writer.check()


def test_an_event_that_is_larger_than_a_frame_goes_alone() -> None:
    writer = Writer()
    large = notes(1, FRAME_BYTES_MAX + 1)
    sealed = writer.write({RUNS[0]: [created(RUNS[0]), *notes(1), *large, *notes(1)]})
    assert [each.events for each in sealed if len(each.payload) > FRAME_BYTES_MAX] == [1]
    writer.check()


def test_number_revision_and_chain_continue_over_frames_and_ticks() -> None:
    writer = Writer()
    first = writer.write({RUNS[0]: [created(RUNS[0]), *notes(1000)]})
    second = writer.write({RUNS[0]: notes(700)})
    sealed = first + second
    frames = frames_of(sealed)
    assert [frame.number for frame in frames] == list(range(2, 2 + len(frames)))
    for at in range(1, len(frames)):
        assert frames[at].rev == frames[at - 1].rev + len(frames[at - 1].events)
        assert frames[at].prev == chain_hash(sealed[at - 1].payload)
    writer.check()


def test_each_run_has_its_own_revisions_and_the_shards_own_frames_go_first() -> None:
    writer = Writer()
    rejected = m.CommandRejected(0, command=b"c", code="busy", by="me", reason="no")
    sealed = writer.write({run: [created(run), *notes(2)] for run in RUNS}, [rejected])
    assert [each.key for each in sealed] == [SHARD_KEY, *RUNS]
    assert [frame.rev for frame in frames_of(sealed)] == [2, 1, 1, 1]
    writer.check()


def test_a_tick_without_events_makes_no_frame_and_moves_nothing() -> None:
    writer = Writer()
    before = state_hash(writer.state)
    assert seal(writer.state, {}, [], now_ns=10**18) == []
    assert state_hash(writer.state) == before


def test_time_never_goes_back_within_a_shard() -> None:
    writer = Writer()
    writer.state.ts_ns = 1_000
    (sealed,) = writer.write({RUNS[0]: [created(RUNS[0])]})
    (frame,) = frames_of([sealed])
    assert frame.ts_ns == 1_000
