"""The lease: one holder, replaced when it stalls, gone when it resigns."""

import asyncio
from weakref import WeakKeyDictionary

import pytest
from leader_rig import until
from set_time import LoopClock

from millstream_events.endpoint import Endpoint
from millstream_events.errors import ConfigError, LogUnavailableError
from millstream_events.memory import MemoryLeases
from millstream_events.memory_bus import MemoryBus, MemorySwitch
from millstream_events.subjects import lease_key
from millstream_scheduler.config import SchedulerConfig
from millstream_scheduler.ownership import Lease

pytestmark = pytest.mark.set_time

KEY = lease_key("lo00")
SWITCHES: WeakKeyDictionary[MemoryLeases, MemorySwitch] = WeakKeyDictionary()


class SleepyClock(LoopClock):
    """Adds an amount by which the process has been asleep."""

    def __init__(self) -> None:
        super().__init__()
        self.slept_ns = 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.slept_ns


def config(node: str) -> SchedulerConfig:
    return SchedulerConfig(
        endpoint=Endpoint(url=""),
        node=node,
        lease_renew_ms=10,
        lease_giveup_ms=60,
        lease_ms=90,
    )


def lease(store: MemoryLeases, node: str = "n", clock: SleepyClock | None = None) -> Lease:
    return Lease(store, bus_at(store), clock or SleepyClock(), config(node), nonce=node)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def bus_at(store: MemoryLeases) -> MemoryBus:
    """Return a bus of its own, joined with all others that are made for the same store."""
    return MemoryBus(SWITCHES.setdefault(store, MemorySwitch()))


class Contender:
    """Seeks, keeps, and seeks again."""

    def __init__(self, store: MemoryLeases, node: str) -> None:
        self.lease = lease(store, node)
        self.holds = False
        self.task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        while True:
            await self.lease.acquire()
            self.holds = True
            await self.lease.keep()
            self.holds = False


async def test_only_one_of_three_contenders_holds_it_and_a_dead_one_is_replaced() -> None:
    store = MemoryLeases()
    contenders = [Contender(store, f"n{number}") for number in range(3)]
    for left in (3, 2, 1):
        await until(lambda: any(each.holds for each in contenders))
        for _ in range(30):
            assert sum(each.holds for each in contenders) == 1
            await asyncio.sleep(0.005)
        (holder,) = [each for each in contenders if each.holds]
        holder.task.cancel()
        contenders.remove(holder)
        assert len(contenders) == left - 1


async def test_a_free_lease_is_taken_at_once() -> None:
    async with asyncio.timeout(0.05):
        await lease(MemoryLeases()).acquire()


async def test_a_held_lease_is_not_claimed_before_it_has_been_still_for_its_time() -> None:
    store = MemoryLeases()
    await lease(store, "dead").acquire()
    began = now_s()
    await lease(store, "next").acquire()
    assert 0.09 <= now_s() - began < 0.5


async def test_a_lease_that_is_renewed_is_never_claimed() -> None:
    store = MemoryLeases()
    holder = lease(store, "holder")
    await holder.acquire()
    keeping = asyncio.create_task(holder.keep())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await lease(store, "next").acquire()
    assert not keeping.done()
    keeping.cancel()


async def test_a_holder_that_cannot_reach_the_store_gives_up_before_another_may_claim() -> None:
    store = MemoryLeases()
    holder = lease(store)
    await holder.acquire()
    began = now_s()
    store.connected = False
    async with asyncio.timeout(2):
        assert await holder.keep() == "the lease could not be renewed in time"
    assert 0.055 <= now_s() - began < 0.09


class _MuteLeases(MemoryLeases):
    """Never answers a write."""

    mute = False

    async def write(self, key: str, value: bytes, revision: int) -> int:
        if self.mute:
            await asyncio.Event().wait()
        return await super().write(key, value, revision)


async def test_a_store_that_never_answers_is_given_up_just_the_same() -> None:
    store = _MuteLeases()
    holder = lease(store)
    await holder.acquire()
    store.mute = True
    async with asyncio.timeout(1):
        assert await holder.keep() == "the lease could not be renewed in time"


async def test_a_short_outage_of_the_store_costs_nothing() -> None:
    store = MemoryLeases()
    holder = lease(store)
    await holder.acquire()
    keeping = asyncio.create_task(holder.keep())
    store.connected = False
    await asyncio.sleep(0.03)
    store.connected = True
    await asyncio.sleep(0.1)
    assert not keeping.done()
    keeping.cancel()


async def test_a_holder_that_slept_keeps_the_lease_if_nobody_has_claimed_it() -> None:
    store, clock = MemoryLeases(), SleepyClock()
    holder = lease(store, "holder", clock)
    await holder.acquire()
    keeping = asyncio.create_task(holder.keep())
    clock.slept_ns += 10_000_000_000
    await asyncio.sleep(0.05)
    assert not keeping.done()
    keeping.cancel()


async def test_a_holder_that_slept_and_was_replaced_stops_at_its_first_renewal() -> None:
    store, clock = MemoryLeases(), SleepyClock()
    holder = lease(store, "holder", clock)
    await holder.acquire()
    await lease(store, "next").acquire()
    clock.slept_ns += 10_000_000_000
    async with asyncio.timeout(0.1):
        assert await holder.keep() == "another process holds the lease"


async def test_resigning_lets_the_next_in_at_once() -> None:
    store = MemoryLeases()
    holder = lease(store, "holder")
    await holder.acquire()
    waiting = asyncio.create_task(lease(store, "next").acquire())
    await asyncio.sleep(0.02)
    await holder.resign()
    async with asyncio.timeout(0.05):
        await waiting


async def test_resigning_a_lease_that_another_holds_takes_nothing_from_it() -> None:
    store = MemoryLeases()
    holder, successor = lease(store, "holder"), lease(store, "next")
    await holder.acquire()
    await successor.acquire()
    await holder.resign()
    assert await store.read(KEY) is not None
    store.connected = False
    await holder.resign()  # Unreachable: the successor waits its time, nothing more.


async def test_a_contender_waits_for_a_store_that_does_not_answer() -> None:
    store = MemoryLeases()
    store.connected = False
    waiting = asyncio.create_task(lease(store).acquire())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    store.connected = True
    async with asyncio.timeout(0.2):
        await waiting


class _LossyLeases(MemoryLeases):
    """Writes, and loses the answer to the write with this number."""

    lose = -1
    writes = 0

    async def write(self, key: str, value: bytes, revision: int) -> int:
        self.writes += 1
        written = await super().write(key, value, revision)
        if self.writes == self.lose:
            raise LogUnavailableError("leases", "no answer")
        return written


async def test_a_renewal_whose_answer_was_lost_does_not_cost_the_lease() -> None:
    store = _LossyLeases()
    holder = lease(store)
    await holder.acquire()
    store.lose = 3
    keeping = asyncio.create_task(holder.keep())
    seeking = asyncio.create_task(lease(store, "next").acquire())
    await until(lambda: store.writes > 8 or keeping.done())
    assert not keeping.done()
    keeping.cancel()
    seeking.cancel()


async def test_a_lease_that_nobody_seeks_is_written_once_and_then_left_alone() -> None:
    store = _LossyLeases()
    holder = lease(store)
    await holder.acquire()
    keeping = asyncio.create_task(holder.keep())
    await asyncio.sleep(0.3)  # Thirty times `lease_renew_ms`.
    assert store.writes <= 2
    keeping.cancel()


async def test_a_holder_that_rests_answers_whoever_seeks_its_lease_in_time() -> None:
    store = _LossyLeases()
    holder = lease(store, "holder")
    await holder.acquire()
    keeping = asyncio.create_task(holder.keep())
    await asyncio.sleep(0.05)
    seeking = asyncio.create_task(lease(store, "next").acquire())
    await asyncio.sleep(0.3)
    assert not seeking.done()
    assert store.writes > 4
    seeking.cancel()
    keeping.cancel()


async def test_a_holder_that_was_cut_off_and_replaced_stops_once_it_is_back() -> None:
    store = MemoryLeases()
    bus = bus_at(store)
    holder = Lease(store, bus, SleepyClock(), config("holder"), nonce="holder")
    await holder.acquire()
    keeping = asyncio.create_task(holder.keep())
    await asyncio.sleep(0.05)
    bus.cut()
    await lease(store, "next").acquire()
    assert not keeping.done()
    bus.restore()
    async with asyncio.timeout(1):
        assert await keeping == "another process holds the lease"


async def test_a_claim_whose_answer_was_lost_is_recognised() -> None:
    store = _LossyLeases()
    store.lose = 1
    async with asyncio.timeout(0.06):  # Less than another's lease would have to be waited for.
        await lease(store).acquire()


@pytest.mark.parametrize(
    ("renew", "giveup", "whole"), [(0, 60, 90), (30, 60, 90), (10, 90, 90), (10, 100, 90)]
)
def test_times_that_would_let_two_hold_it_are_refused(renew: int, giveup: int, whole: int) -> None:
    with pytest.raises(ConfigError, match="gives up before a standby may claim"):
        SchedulerConfig(
            endpoint=Endpoint(url=""),
            node="n",
            lease_renew_ms=renew,
            lease_giveup_ms=giveup,
            lease_ms=whole,
        )


def test_a_rest_shorter_than_the_time_between_two_renewals_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be at least lease_renew_ms"):
        SchedulerConfig(endpoint=Endpoint(url=""), node="n", lease_rest_ms=200)
