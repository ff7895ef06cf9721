"""The leader's shell: what waits for the log, and what happens when it cannot go on."""

import asyncio
from collections import Counter

import msgspec
import pytest
from leader_rig import (
    COMMANDS,
    NS,
    REPORTS,
    RUN,
    SHARD,
    WORK,
    Rig,
    ScriptAgent,
    ScriptClient,
    entries_of,
    until,
)
from set_time import LoopClock

from millstream_events import subjects
from millstream_events.audit import audit
from millstream_events.codec import MESSAGE_BYTES_MAX, decode_frame, decoder_of, encode
from millstream_events.commands import AbortRun, ClientBatch, DescribeShard, RunReleased, SubmitRun
from millstream_events.ids import new_run_id
from millstream_events.model import ActionRequested
from millstream_events.phases import Phase
from millstream_events.reports import (
    AgentBatch,
    Cancel,
    Credit,
    Hello,
    StartAction,
    Started,
    ToAgent,
    Work,
)
from millstream_events.state import ShardState
from millstream_events.values import Policy, TaskRef
from millstream_scheduler import appender as appender_module
from millstream_scheduler.takeover import elect

pytestmark = pytest.mark.set_time

HOUR_NS = 3600 * 1_000_000_000


def run_id(number: int) -> str:
    return new_run_id(now_ms=1_700_000_000_000 + number, random_bits=number)


def hello(*, credit: int = 8, generation: int = 1) -> Hello:
    return Hello(generation, "default", "lo", "", (), 8, credit)


class Ear:
    """Hears what one agent is told, and says what the test wants."""

    def __init__(self, rig: Rig) -> None:
        self.messages: list[ToAgent] = []
        self.bus = rig.connection.peer().bus
        decode = decoder_of(ToAgent)

        def hear(_: str, payload: bytes) -> None:
            message = decode(payload)
            assert message is not None
            self.messages.append(message)

        self.bus.subscribe(WORK, hear)

    def say(self, first: int, *items: object, incarnation: str = "i1") -> None:
        self.bus.publish(REPORTS, encode(AgentBatch(incarnation, first, items)))  # type: ignore[arg-type]  # reports

    def orders(self, kind: type) -> list[object]:
        return [order for each in self.messages for order in each.items if isinstance(order, kind)]


async def turns(count: int = 20) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_no_answer_leaves_while_its_frame_is_unacknowledged() -> None:
    rig = Rig()
    client = ScriptClient(rig)
    await rig.lead()
    rig.log.hold = True
    client.submit()
    await until(lambda: rig.records.last_seq == 2)
    await turns()
    assert client.replies == []
    rig.log.let_go()
    await until(lambda: client.accepted() == [RUN])
    rig.stop()


async def test_ticks_in_flight_are_bounded_and_what_waits_goes_into_one_frame_each() -> None:
    rig = Rig()
    client = ScriptClient(rig)
    await rig.lead()
    rig.log.hold = True
    for number in range(10):
        client.submit(run_id(number))
        await turns()
    assert rig.log.appends == rig.config.ticks_in_flight_max
    rig.log.let_go()
    await until(lambda: len(client.accepted()) == 10)
    rig.stop()


async def test_ticks_that_only_dispatch_count_as_in_flight_too() -> None:
    rig = Rig()
    client = ScriptClient(rig)
    ear = Ear(rig)
    await rig.lead()
    for number in range(10):
        client.submit(run_id(number))
    ear.say(1, hello(credit=0))
    await until(lambda: len(client.accepted()) == 10)
    await turns()
    rig.log.hold = True
    before = rig.log.appends
    for granted in range(1, 11):
        ear.say(1, Credit(1, granted))
        await turns()
    assert rig.log.appends - before == rig.config.ticks_in_flight_max
    rig.log.let_go()
    await until(lambda: len(ear.orders(Work)) == 10)
    rig.stop()


class PassingClock(LoopClock):
    """Each look at the wall is a millisecond later: ticks can be told apart by their time."""

    def now_ns(self) -> int:
        self.offset_ns += 1_000_000
        return super().now_ns()


async def test_a_tick_stays_short_however_many_reports_have_come_in() -> None:
    rig = Rig()
    rig.clock = PassingClock()
    client = ScriptClient(rig)
    ear = Ear(rig)
    await rig.lead()
    ear.say(1, hello())
    client.submit()
    await until(lambda: len(ear.orders(Work)) == 1)
    (root,) = ear.orders(Work)
    assert isinstance(root, Work)
    calls = [
        StartAction(RUN, 0, root.token, number.to_bytes(10, "big"), "task", TaskRef("t"), None, b"")
        for number in range(1, 10_001)
    ]
    for first in range(0, len(calls), 1_000):
        ear.say(first + 1, *calls[first : first + 1_000])
    await until(lambda: requested_by_tick(rig).total() == len(calls))
    assert max(requested_by_tick(rig).values()) <= 5_000
    rig.stop()


def requested_by_tick(rig: Rig) -> Counter[int]:
    """Return how many actions each tick has requested, by its time."""
    found: Counter[int] = Counter()
    for entry in entries_of(rig.records):
        frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
        found[frame.ts_ns] += sum(isinstance(event, ActionRequested) for event in frame.events)
    return found


async def test_a_timer_that_came_due_while_the_log_was_slow_fires_after_it() -> None:
    rig = Rig()
    client = ScriptClient(rig)
    ear = Ear(rig)
    leader = await rig.lead()
    ear.say(1, hello())
    client.submit(policy=Policy(deadline_ms=60))
    await until(lambda: client.accepted() and ear.orders(Work))
    await until(lambda: leader.quiet)
    rig.log.hold = True
    for number in range(6):
        client.ask(AbortRun(bytes([number]) * 16, run_id(99)))
        await turns()
    await asyncio.sleep(0.1)
    assert not ear.orders(Cancel)
    rig.log.let_go()
    await until(lambda: ear.orders(Cancel), deadline_s=0.3)
    rig.stop()


async def test_a_clock_set_back_by_an_hour_delays_no_timer() -> None:
    rig = Rig()
    client = ScriptClient(rig)
    await rig.lead()
    client.submit(policy=Policy(deadline_ms=100))
    await until(client.accepted)
    rig.clock.offset_ns = -HOUR_NS
    await until(lambda: client.released, deadline_s=1)
    assert client.released[0].phase == Phase.TIMED_OUT
    rig.stop()


async def test_an_acknowledgement_for_a_former_incarnation_never_reaches_the_next() -> None:
    rig = Rig()
    client = ScriptClient(rig)
    ear = Ear(rig)
    await rig.lead()
    ear.say(1, hello())
    client.submit()
    await until(lambda: ear.orders(Work))
    (work,) = ear.orders(Work)
    assert isinstance(work, Work)
    rig.log.hold = True
    ear.say(1, *[Started(RUN, 0, work.token, "w", 1, 1) for _ in range(5)])
    await turns()
    ear.say(1, hello(), incarnation="i2")
    ear.say(1, Credit(1, 9), incarnation="i2")
    await turns()
    rig.log.let_go()
    await turns(50)
    await until(lambda: any(each.incarnation == "i2" for each in ear.messages))
    assert {each.acked for each in ear.messages if each.incarnation == "i2"} == {0}
    rig.stop()


async def test_both_incarnations_in_one_tick_keep_their_numbers_apart() -> None:
    rig = Rig()
    client = ScriptClient(rig)
    ear = Ear(rig)
    await rig.lead()
    ear.say(1, hello())
    client.submit()
    await until(lambda: ear.orders(Work))
    (work,) = ear.orders(Work)
    assert isinstance(work, Work)
    ear.say(1, *[Started(RUN, 0, work.token, "w", 1, 1) for _ in range(5)])
    ear.say(1, hello(), incarnation="i2")
    await until(lambda: len(ear.orders(Work)) == 2)
    await turns()
    assert {each.acked for each in ear.messages if each.incarnation == "i2"} == {0}
    rig.stop()


# ------------------------------------------------------------------ zombies


@pytest.mark.parametrize("in_flight", range(1, 5))
async def test_a_zombie_with_frames_in_flight_releases_nothing_after_its_successor(
    in_flight: int,
) -> None:
    rig = Rig()
    client = ScriptClient(rig)
    zombie = await rig.lead()
    zombie_log = rig.log
    zombie_log.stall = True
    await turns()
    for number in range(in_flight):
        client.submit(run_id(number))
        await turns()
    assert len(zombie_log.stalled) == in_flight
    connection = rig.connection.peer()
    state = ShardState(SHARD)
    await elect(connection.event_log(SHARD), state, node="n2", clock=rig.clock)
    elected_seq = rig.records.last_seq
    zombie_log.resume()
    async with asyncio.timeout(2):
        assert "epoch 2" in await zombie.deposed
    await turns(50)
    assert client.replies == []
    appended = zombie_log.appends
    client.submit(run_id(77))
    await turns()
    assert zombie_log.appends == appended
    # What slipped in behind the election is void: no reader counts it.
    behind = rig.replayed()
    assert behind.void_frames == rig.records.last_seq - elected_seq == in_flight - 1
    assert behind.runs == {}
    # The next leader folds over it, and the clients' repeats create the runs.
    await rig.lead()
    await until(lambda: len(client.accepted()) == in_flight + 1)
    assert set(rig.replayed().runs) == set(client.accepted())
    rig.stop()


# ------------------------------------------------------------------ storage full


async def test_with_a_full_store_new_runs_are_refused_and_work_goes_on_once_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(appender_module, "_RETRY_S", 0.02)
    rig = Rig()
    client = ScriptClient(rig)
    await rig.lead()
    client.submit()
    await until(client.accepted)
    rig.log.log.full = True
    client.ask(AbortRun(b"a" * 16, run_id(99)))  # Its frame finds the store full.
    await until(lambda: rig.leaders[0]._appender.full)
    agent = ScriptAgent(rig)
    agent.hello()
    for number in range(8):
        client.submit(run_id(number))
        await turns()
        assert client.codes()[-1:] == ["storage-full"]
        assert client.codes().count("storage-full") == number + 1
        await asyncio.sleep(0.005)  # Also between two tries.
    assert not client.released
    seen = rig.records.last_seq
    rig.log.log.full = False
    await until(lambda: client.released)
    assert client.released[0].phase == Phase.SUCCEEDED
    assert rig.records.last_seq > seen
    assert agent.starts
    client.submit(run_id(50))
    await until(lambda: run_id(50) in client.accepted())
    await until(lambda: rig.leaders[0].quiet)
    assert audit(entries_of(rig.records), quiescent=False).violations == ()
    assert rig.early == []
    rig.stop()


async def test_submissions_that_already_wait_when_the_store_fills_up_are_refused_as_well() -> None:
    rig = Rig()
    client = ScriptClient(rig)
    await rig.lead()
    await turns()
    rig.log.log.full = True
    rig.log.hold = True
    for number in range(rig.config.ticks_in_flight_max):
        client.submit(run_id(number))
        await turns()
    client.submit(run_id(20))
    await turns()
    assert client.replies == []
    rig.log.let_go()
    await until(lambda: client.codes() == ["storage-full"], deadline_s=0.2)
    # One whose frame waits for room will happen: asked again, it is not called refused.
    client.submit(run_id(0))
    await turns()
    assert client.codes() == ["storage-full"]
    rig.log.log.full = False
    await until(lambda: len(client.accepted()) == rig.config.ticks_in_flight_max)
    rig.stop()


# ------------------------------------------------------------------ what the leader cannot take


async def test_a_leader_whose_tick_fails_stops_instead_of_going_on_with_a_false_memory() -> None:
    rig = Rig()
    ear = Ear(rig)
    client = ScriptClient(rig)
    leader = await rig.lead()
    ear.say(1, hello())
    client.submit()
    await until(lambda: ear.orders(Work))
    (work,) = ear.orders(Work)
    assert isinstance(work, Work)
    # A report that just fits into a message, and whose frame does not.
    empty = len(encode(AgentBatch("i1", 1, (Started(RUN, 0, work.token, "", 1, 1),)))) + 4
    ear.say(1, Started(RUN, 0, work.token, "w" * (MESSAGE_BYTES_MAX - empty), 1, 1))
    async with asyncio.timeout(2):
        why = await leader.deposed
    assert "PayloadTooLargeError" in why
    stored = rig.records.last_seq
    client.submit(run_id(3))
    await turns()
    assert rig.records.last_seq == stored
    assert run_id(3) not in client.accepted()


async def test_what_nobody_can_read_or_answer_is_dropped_and_counted() -> None:
    rig = Rig()
    leader = await rig.lead()
    bus = rig.connection.peer().bus
    ask = (DescribeShard(b"d" * 16),)
    for payload in (
        b"",
        b"\xc1",
        encode(ClientBatch("me", ask)),
        encode(ClientBatch("me.1 2", ask)),
        encode(ClientBatch("me.1\r\nPUB x 0\r\n", ask)),
        encode(ClientBatch("me.>", ask)),
        encode(ClientBatch("m" * 70_000 + ".1", ask)),
    ):
        bus.publish(COMMANDS, payload)
    bus.publish(REPORTS, b"\x92")
    await until(lambda: leader.dropped == 8)
    assert not leader.deposed.done()
    rig.stop()


async def test_a_stopped_leader_neither_hears_nor_says_anything() -> None:
    rig = Rig()
    client = ScriptClient(rig)
    leader = await rig.lead()
    heard: list[bytes] = []
    rig.connection.peer().bus.subscribe(
        subjects.leader_subject(NS, SHARD), lambda _, payload: heard.append(payload)
    )
    leader.stop()
    leader.stop()
    client.submit()
    await turns(50)
    assert client.replies == []
    assert heard == []
    assert await leader.deposed == "stopped"


async def test_a_watch_of_a_finished_run_is_answered_from_what_is_durable() -> None:
    rig = Rig()
    ScriptAgent(rig)
    client = ScriptClient(rig)
    await rig.lead()
    client.submit()
    await until(lambda: client.released)
    client.submit()
    await until(lambda: len(client.released) == 2)
    first, second = client.released
    assert isinstance(first, RunReleased)
    assert isinstance(second, RunReleased)
    # Where another run would begin is told once.
    assert (first.agent, second.agent) == ("lo.default.a", "")
    assert msgspec.structs.replace(first, agent="") == second
    assert rig.early == []
    rig.stop()


async def test_a_batch_of_many_submissions_is_taken_in_short_ticks() -> None:
    rig = Rig()
    client = ScriptClient(rig)
    await rig.lead()
    client.ask(*(SubmitRun(bytes([n]) * 16, run_id(n), TaskRef("e.main")) for n in range(200)))
    await until(lambda: len(client.accepted()) == 200)
    rig.stop()
