"""Time that later attempts see as the first one did."""

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest

from millstream import durable
from millstream.errors import SyncTaskCallInAsyncContextError


async def test_time_and_now_are_the_same_in_every_attempt(host: Any) -> None:
    async def main() -> list[Any]:
        return [await durable.time.aio(), durable.time(), await durable.now.aio(), durable.now()]

    first = await host.attempt(main)
    assert first[0] < first[1], "each call is a step of its own"
    assert isinstance(first[2], datetime)
    assert first[2].tzinfo is None
    assert await host.attempt(main, number=2) == first


async def test_a_sync_task_has_durable_time_too(host: Any) -> None:
    def main() -> tuple[float, datetime]:
        durable.sleep(30)
        return durable.time(), durable.now()

    first = await host.attempt(main)
    assert await host.attempt(main, number=2) == first
    assert len(host.timers) == 1


async def test_a_sleep_is_a_timer_that_is_due_from_its_first_start(host: Any) -> None:
    async def main() -> None:
        await durable.sleep.aio(30)
        await durable.sleep.aio(30)

    before_ms = time.time() * 1000
    await host.attempt(main)
    (first, first_due), (second, second_due) = host.timers
    assert before_ms + 30_000 - 1 <= first_due <= second_due <= time.time() * 1000 + 30_001
    assert first != second
    await host.attempt(main, number=2)
    assert len(host.timers) == 2, "timers that have fired are not set again"


async def test_a_timer_that_has_not_fired_is_asked_for_again_with_the_same_id_and_time(
    host: Any,
) -> None:
    async def main() -> None:
        await durable.sleep.aio(30)

    await host.attempt(main)
    (timer,) = host.timers
    for journal in host.journals.values():
        del journal[timer[0]]
    await host.attempt(main, number=2)
    assert host.timers == [timer, timer]


async def test_a_plain_sleep_in_async_code_of_a_run_is_refused(host: Any) -> None:
    async def main() -> None:
        with pytest.raises(SyncTaskCallInAsyncContextError, match=r"durable\.sleep\.aio"):
            durable.sleep(1)

    await host.attempt(main)


def test_outside_of_a_task_time_is_time() -> None:
    before = time.time()
    durable.sleep(0.01)
    assert durable.time() - before >= 0.01
    asyncio.run(durable.sleep.aio(0))
    assert abs(durable.now().timestamp() - time.time()) < 5
