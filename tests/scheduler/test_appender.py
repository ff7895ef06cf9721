"""Frames on their way to the log: every fault at every place leaves each of them in it once."""

import asyncio
from collections.abc import Sequence

import pytest

from millstream_events import memory_log
from millstream_events import model as m
from millstream_events.codec import MESSAGE_BYTES_MAX, encode_frame
from millstream_events.errors import PayloadTooLargeError
from millstream_events.memory import MemoryConnection
from millstream_events.memory_faults import AppendFault, FaultPlan
from millstream_events.memory_log import MemoryLog
from millstream_events.ports import LogEntry
from millstream_events.seal import Sealed
from millstream_events.subjects import SHARD_KEY
from millstream_scheduler import appender as appender_module
from millstream_scheduler.appender import Appender

pytestmark = pytest.mark.set_time

EPOCH = 3
FRAMES = 4


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_log, "APPEND_DEADLINE_S", 0.02)
    monkeypatch.setattr(appender_module, "_RETRY_S", 0.005)


def sealed(number: int, *, base: int = 0, epoch: int = EPOCH, text: str = "") -> Sealed:
    """Return frame `number` of an epoch that began after sequence `base`."""
    event = m.RunAnnotated(0, entries=(("number", text or str(number)),))
    payload = encode_frame(
        epoch=epoch, number=number, ts_ns=1, rev=number, prev=bytes(16), events=[event]
    )
    return Sealed(f"run-{number % 2}", payload, number, base + number - 1, 1)


class Rig:
    """An appender, and what it says."""

    def __init__(self, log: MemoryLog, *, durable_seq: int = 0) -> None:
        self.log = log
        self.said: list[int] = []
        self.deposed: list[str] = []
        self.doubts = 0
        self.appender = Appender(
            log,
            epoch=EPOCH,
            durable_seq=durable_seq,
            on_durable=self._durable,
            on_doubt=self._doubt,
            on_deposed=self._depose,
        )

    def _durable(self) -> None:
        # What is called durable is in the log by then, whatever the adapters answered.
        assert self.appender.durable_seq <= self.log.records.last_seq
        self.said.append(self.appender.durable_seq)

    def _doubt(self) -> None:
        self.doubts += 1

    def _depose(self, why: str) -> None:
        self.deposed.append(why)
        self.appender.stop()

    def stored(self) -> list[bytes]:
        return [entry.payload for entry in self.log.records.read(0, None, 1000)]

    async def settled(self) -> None:
        async with asyncio.timeout(5):
            while not self.appender.quiet and not self.deposed:
                await asyncio.sleep(0.001)

    def check(self, frames: Sequence[Sealed]) -> None:
        assert self.stored() == [frame.payload for frame in frames]
        assert self.appender.durable_seq == len(frames)
        assert self.appender.pending_bytes == 0
        assert not self.appender.in_doubt
        assert self.said == sorted(self.said)
        assert self.deposed == []


def rig(plan: FaultPlan | None = None, *, durable_seq: int = 0) -> Rig:
    return Rig(MemoryConnection(plan=plan).event_log("lo00"), durable_seq=durable_seq)


@pytest.mark.parametrize("fault", AppendFault, ids=lambda fault: fault.name)
async def test_a_fault_at_any_frame_in_flight_neither_repeats_nor_drops_one(
    fault: AppendFault,
) -> None:
    await asyncio.gather(*(one_fault(fault, at) for at in range(FRAMES)))


async def one_fault(fault: AppendFault, at: int) -> None:
    each = rig(FaultPlan(appends={at: fault}, delay_s=0.01))
    frames = [sealed(number) for number in range(1, FRAMES + 3)]
    each.appender.append(frames[:FRAMES])
    await asyncio.sleep(0)
    each.appender.append(frames[FRAMES:])  # Arrives while the log is asked, or before.
    await each.settled()
    await asyncio.sleep(0.05)  # What comes late finds the fence.
    each.check(frames)


@pytest.mark.parametrize("fault", AppendFault, ids=lambda fault: fault.name)
async def test_a_second_fault_while_frames_are_sent_again_is_read_back_as_well(
    fault: AppendFault,
) -> None:
    await asyncio.gather(*(two_faults(fault, again) for again in AppendFault))


async def two_faults(fault: AppendFault, again: AppendFault) -> None:
    each = rig(FaultPlan(appends={1: fault, FRAMES: again, FRAMES + 1: again}, delay_s=0.01))
    frames = [sealed(number) for number in range(1, FRAMES + 1)]
    each.appender.append(frames)
    await each.settled()
    await asyncio.sleep(0.05)
    each.check(frames)


async def test_under_any_faults_the_log_holds_the_decided_frames_in_order() -> None:
    await asyncio.gather(*(seeded_faults(seed) for seed in range(40)))


async def seeded_faults(seed: int) -> None:
    plan = FaultPlan.seeded(seed, append_rate=0.15, read_rate=0.2)
    plan.delay_s = 0.002
    each = rig(plan)
    frames = [sealed(number) for number in range(1, 41)]
    for start in range(0, 40, 5):
        each.appender.append(frames[start : start + 5])
        await asyncio.sleep(0.002)
    await each.settled()
    await asyncio.sleep(0.05)
    each.check(frames)


async def test_while_in_doubt_nothing_is_sent_until_the_log_has_answered() -> None:
    plan = FaultPlan(appends={0: AppendFault.CUT_BEFORE}, reads=frozenset(range(3)))
    each = rig(plan)
    each.appender.append([sealed(1)])
    async with asyncio.timeout(1):
        while not each.appender.in_doubt:
            await asyncio.sleep(0)
    each.appender.append([sealed(2), sealed(3)])
    assert plan.append_count == 1
    assert each.said == []
    await each.settled()
    assert plan.read_count == 4
    each.check([sealed(number) for number in range(1, 4)])


async def test_a_full_store_is_tried_until_there_is_room_and_counts_as_full_all_the_while() -> None:
    each = rig()
    each.log.full = True
    frames = [sealed(1), sealed(2)]
    each.appender.append(frames)
    async with asyncio.timeout(1):
        while not each.appender.full:
            await asyncio.sleep(0)
    for _ in range(200):
        assert each.appender.full
        assert each.appender.in_doubt
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    assert each.appender.full
    assert each.said == [0] * len(each.said)
    each.log.full = False
    await each.settled()
    assert not each.appender.full
    each.check(frames)


@pytest.mark.parametrize("landed", range(FRAMES))
async def test_a_higher_epoch_deposes_whatever_had_landed_and_nothing_more_is_sent(
    landed: int,
) -> None:
    plan = FaultPlan()
    each = rig(plan)
    frames = [sealed(number) for number in range(1, FRAMES + 1)]
    each.appender.append(frames[:landed])
    await each.settled()
    elected = encode_frame(
        epoch=EPOCH + 1,
        number=1,
        ts_ns=1,
        rev=2,
        prev=bytes(16),
        events=[m.LeaderElected(0, epoch=EPOCH + 1, node="other")],
    )
    each.log.records.add(SHARD_KEY, elected)
    each.appender.append(frames[landed:])
    await each.settled()
    assert each.deposed == [f"a frame of epoch {EPOCH + 1} is in the way of epoch {EPOCH}"]
    assert each.appender.durable_seq == landed
    sent = plan.append_count
    each.appender.append([sealed(FRAMES + 1)])
    await asyncio.sleep(0.05)
    assert plan.append_count == sent
    # Those behind the refused one find the sequences that they expect: void, and never durable.
    late = [frame.payload for frame in frames[landed + 1 :]]
    assert each.stored() == [*(frame.payload for frame in frames[:landed]), elected, *late]
    assert len(each.deposed) == 1


@pytest.mark.parametrize(
    ("foreign", "why"),
    [
        (sealed(1, text="another").payload, "not ours"),
        (sealed(9).payload, "not ours"),
        (b"\xc1 no frame", "not a frame"),
        (sealed(1, epoch=EPOCH - 1).payload, "is in the way"),
    ],
    ids=["same-number", "unknown-number", "garbage", "lower-epoch"],
)
async def test_a_record_that_is_not_ours_deposes(foreign: bytes, why: str) -> None:
    each = rig()
    each.log.records.add("run-1", foreign)
    each.appender.append([sealed(1), sealed(2)])
    await each.settled()
    assert why in each.deposed[0]
    assert each.stored() == [foreign, sealed(2).payload]
    assert each.appender.durable_seq == 0
    assert each.said == []


async def test_a_log_that_lost_what_was_acknowledged_deposes() -> None:
    each = rig(durable_seq=5)
    each.log.records.add("run-1", sealed(1).payload)
    each.appender.append([sealed(1, base=5)])
    await each.settled()
    assert each.deposed == ["the log ends at 1, and 5 was acknowledged"]


async def test_a_purged_tail_deposes() -> None:
    each = rig()
    each.log.records.add("run-1", sealed(1).payload)
    each.log.records.purge(1)
    each.appender.append([sealed(1)])
    await each.settled()
    assert each.deposed == ["the record at sequence 1 was removed"]


async def test_after_stop_answers_are_ignored_and_nothing_is_sent() -> None:
    plan = FaultPlan()
    each = rig(plan)
    each.appender.append([sealed(1)])
    each.appender.stop()
    each.appender.append([sealed(2)])
    await asyncio.sleep(0.02)
    assert plan.append_count == 1
    assert each.said == []
    assert each.appender.durable_seq == 0


async def test_a_frame_over_the_message_limit_is_raised_to_whoever_decided_it() -> None:
    each = rig()
    with pytest.raises(PayloadTooLargeError):
        each.appender.append([sealed(1, text="x" * MESSAGE_BYTES_MAX)])
    assert each.stored() == []


class _BrokenLog(MemoryLog):
    async def last(self) -> LogEntry | None:
        raise RuntimeError("broken")


async def test_a_read_back_that_breaks_deposes_instead_of_waiting_for_ever() -> None:
    connection = MemoryConnection()
    plan = FaultPlan(appends={0: AppendFault.FULL})
    each = Rig(_BrokenLog(connection.installation.records("lo00"), plan))
    each.appender.append([sealed(1)])
    await each.settled()
    assert "broken" in each.deposed[0]
