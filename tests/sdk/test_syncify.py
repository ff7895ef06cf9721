"""One API, plain and async, over one background loop."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from millstream._syncify import (
    WouldDeadlockError,
    background,
    syncify,
    syncify_iterator,
    syncify_iterator_method,
    syncify_method,
)


@syncify
async def where(value: int) -> tuple[int, str]:
    """Say where it runs."""
    await asyncio.sleep(0)
    return value, threading.current_thread().name


@syncify_iterator
async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        await asyncio.sleep(0)
        yield number


class Thing:
    def __init__(self, value: int) -> None:
        self.value = value

    @syncify_method
    async def add(self, more: int) -> int:
        return self.value + more

    @syncify_iterator_method
    async def items(self) -> AsyncIterator[int]:
        yield self.value


def test_both_forms_run_on_the_background_loop() -> None:
    assert where(1) == (1, "millstream-loop")
    assert asyncio.run(where.aio(2)) == (2, "millstream-loop")
    assert where.__doc__ == "Say where it runs."


async def test_the_plain_form_works_inside_a_running_loop_as_in_a_notebook() -> None:
    assert where(1)[0] == 1


async def test_the_plain_form_on_the_background_loop_says_that_it_would_deadlock() -> None:
    @syncify
    async def outer() -> None:
        where(1)

    with pytest.raises(WouldDeadlockError, match=r"where .* `\.aio") as caught:
        await outer.aio()
    assert isinstance(caught.value, AssertionError)


async def test_the_async_form_may_be_used_on_the_background_loop() -> None:
    @syncify
    async def outer() -> int:
        return (await where.aio(3))[0]

    assert await outer.aio() == 3


def test_methods_and_iterators_have_both_forms() -> None:
    thing = Thing(4)
    assert thing.add(1) == 5
    assert asyncio.run(thing.add.aio(2)) == 6
    assert list(thing.items()) == [4]
    assert list(count(3)) == [0, 1, 2]

    async def collect() -> list[int]:
        return [number async for number in count.aio(3)]

    assert asyncio.run(collect()) == [0, 1, 2]


def test_a_plain_iterator_that_is_left_early_is_closed() -> None:
    closed = threading.Event()

    @syncify_iterator
    async def watched() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    for _ in watched():
        break
    assert closed.wait(5)


async def test_cancelling_the_async_form_cancels_the_work() -> None:
    cancelled = threading.Event()
    started = threading.Event()

    @syncify
    async def forever() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = asyncio.create_task(forever.aio())
    assert await asyncio.to_thread(started.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(cancelled.wait, 5)


def test_an_error_arrives_as_it_was_raised() -> None:
    @syncify
    async def fail() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError):
        fail()


def test_there_is_one_background_loop() -> None:
    assert background.loop is background.loop
