"""Plain forms of users' own async functions."""

import asyncio
import pickle
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millstream.syncify import Syncify, syncify


@syncify
async def add(a: int, b: int = 1) -> int:
    """Add."""
    await asyncio.sleep(0)
    return a + b


@syncify
async def count(to: int) -> AsyncIterator[int]:
    for n in range(to):
        yield n


@syncify
async def fails() -> None:
    raise LookupError("no")


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    @syncify
    async def plus(self, n: int) -> int:
        return self.start + n

    @syncify
    async def numbers(self) -> AsyncIterator[int]:
        yield self.start

    @syncify
    @classmethod
    async def made(cls, start: int) -> "Counter":
        return cls(start)

    @syncify
    @staticmethod
    async def zero() -> int:
        return 0


def test_functions_methods_and_generators_have_a_plain_form() -> None:
    assert (add(1), add(1, b=2), list(count(3))) == (2, 3, [0, 1, 2])
    counter = Counter.made(5)
    assert (counter.plus(1), list(counter.numbers()), Counter.zero()) == (6, [5], 0)
    with pytest.raises(LookupError, match="no"):
        fails()
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert pickle.loads(pickle.dumps(add)) is add


async def test_they_have_an_async_form() -> None:
    assert await add.aio(1) == 2
    assert [n async for n in count.aio(2)] == [0, 1]
    counter = await Counter.made.aio(5)
    assert await counter.plus.aio(2) == 7
    with pytest.raises(LookupError):
        await fails.aio()


def test_a_plain_call_on_the_loop_itself_is_refused() -> None:
    mine = Syncify("mine")

    @mine
    async def inner() -> int:
        return 1

    @mine
    async def outer() -> int:
        return int(inner())

    with pytest.raises(AssertionError, match="Deadlock detected"):
        outer()


def test_only_async_functions_can_be_given_a_plain_form() -> None:
    with pytest.raises(TypeError, match="async functions"):
        syncify(len)


@pytest.mark.parametrize("made", [lambda: syncified_failure(), lambda: list(syncified_items())])
def test_a_traceback_shows_the_user_s_frames_and_one_of_ours(made: Any) -> None:
    with pytest.raises(ValueError, match="late") as caught:
        made()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [frame.filename == __file__ for frame in frames] == [True, True, False, True]


async def iterated() -> None:
    async for _item in syncified_items.aio():
        pass


@pytest.mark.parametrize("made", [lambda: syncified_failure.aio(), iterated])
async def test_so_does_a_traceback_in_async_code(made: Any) -> None:
    with pytest.raises(ValueError, match="late") as caught:
        await made()
    frames = traceback.extract_tb(caught.value.__traceback__)
    ours = [frame for frame in frames if frame.filename != __file__]
    assert len(ours) == 1
    assert frames[-1].filename == __file__


@syncify
async def syncified_failure() -> None:
    raise ValueError("too late")


@syncify
async def syncified_items() -> AsyncIterator[int]:
    yield 1
    raise ValueError("too late")
