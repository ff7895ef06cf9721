"""The garbage collector looks less often while many calls are open, and as ever otherwise."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream._context import Call
from millstream_events.reports import Release, Work
from millstream_events.values import TaskRef
from millstream_executor.collector import MANY_OPEN, OLD_MAX, YOUNG_MAX, Collector, rarer
from millstream_executor.controller import WorkerController
from millstream_executor.worker_blobs import WorkerBlobs

USUAL = (700, 10, 10)


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*USUAL)
    yield
    gc.set_threshold(*before)


def many_open() -> Collector:
    collector = Collector()
    for _ in range(MANY_OPEN):
        collector.opened()
    return collector


def close(collector: Collector, count: int) -> None:
    for _ in range(count):
        collector.closed()


def test_it_looks_less_often_from_many_open_calls_on_until_half_of_them_are_over() -> None:
    collector = many_open()
    assert gc.get_threshold() == (YOUNG_MAX, *USUAL[1:])
    close(collector, MANY_OPEN // 2 - 1)
    assert gc.get_threshold()[0] == YOUNG_MAX
    close(collector, 1)
    assert gc.get_threshold() == USUAL


def test_few_open_calls_change_nothing() -> None:
    collector = Collector()
    for _ in range(3 * MANY_OPEN):
        collector.opened()
        collector.closed()
    assert gc.get_threshold() == USUAL


@pytest.mark.parametrize("own", [(0, 10, 10), (YOUNG_MAX * 2, 5, 5)])
def test_one_that_is_off_or_more_patient_already_stays_so(own: tuple[int, int, int]) -> None:
    gc.set_threshold(*own)
    collector = many_open()
    assert gc.get_threshold() == own
    close(collector, MANY_OPEN)
    assert gc.get_threshold() == own


def test_what_a_task_sets_meanwhile_stays() -> None:
    collector = many_open()
    gc.set_threshold(123, 4, 5)
    close(collector, MANY_OPEN)
    assert gc.get_threshold() == (123, 4, 5)


def test_full_collections_become_rarer_until_they_take_a_small_share_of_the_time() -> None:
    old = rarer(10, took_s=0.1, since_s=10.0)
    assert old == 10
    for _ in range(100):
        old = rarer(old, took_s=3.0, since_s=1.0)
    assert old == OLD_MAX
    # Nobody who is more patient already is made less so.
    assert rarer(2 * OLD_MAX, took_s=3.0, since_s=1.0) == 2 * OLD_MAX


def test_a_full_collection_that_took_long_makes_the_next_one_wait_while_many_are_open() -> None:
    collector = many_open()
    gc.collect()
    gc.collect()  # Right behind the other one, so it took more than its share.
    assert gc.get_threshold()[:2] == (YOUNG_MAX, USUAL[1])
    assert gc.get_threshold()[2] > USUAL[2]
    close(collector, MANY_OPEN)
    assert gc.get_threshold() == USUAL
    gc.collect()
    gc.collect()
    assert gc.get_threshold() == USUAL


async def test_a_fan_out_counts_however_its_calls_end(tmp_path: Path) -> None:
    token = b"t" * 8
    blobs = WorkerBlobs(tmp_path, lambda message: None)
    work = Work(1, "r", 0, bytes(10), 1, token, TaskRef("env.f"), None)
    controller = WorkerController(work, lambda message: None, blobs, lambda work: None)

    def call(number: int) -> asyncio.Task[object]:
        asked = Call(
            id=number.to_bytes(10, "big"), kind="task", task=TaskRef("env.g"), content=None,
            codec="", inputs_hash=b"h", group="", k=0,
        )  # fmt: skip
        return asyncio.create_task(controller.call(asked))

    calls = [call(number) for number in range(2 * MANY_OPEN)]
    await asyncio.sleep(0)
    assert gc.get_threshold()[0] == YOUNG_MAX
    for number in range(MANY_OPEN):
        release = Release("r", token, number.to_bytes(10, "big"), number, "SUCCEEDED")
        controller.deliver(release)
    for each in calls[MANY_OPEN:]:
        each.cancel()
    await asyncio.wait(calls)
    assert gc.get_threshold() == USUAL
