"""The threads that run sync tasks."""

import asyncio
import contextvars
import threading
import time

import pytest

from millstream.errors import NestingTooDeepError
from millstream_executor.threads import TaskThreads


async def test_a_result_and_an_exception_reach_the_awaiting_coroutine() -> None:
    threads = TaskThreads()

    def fail() -> None:
        raise ValueError("boom")

    assert await threads.run(lambda: 7) == 7
    with pytest.raises(ValueError, match="boom"):
        await threads.run(fail)
    threads.close()


async def test_an_idle_thread_is_used_again() -> None:
    threads = TaskThreads()
    idents = {await threads.run(threading.get_ident) for _ in range(50)}
    # A thread reports before it is idle again, so a second one may be started.
    assert len(idents) <= 3
    threads.close()


async def test_jobs_that_block_do_not_hold_up_others() -> None:
    threads = TaskThreads()
    gate = threading.Event()
    blocked = [threads.run(gate.wait) for _ in range(200)]
    assert await threads.run(lambda: "through") == "through"
    gate.set()
    assert all(await asyncio.gather(*blocked))
    threads.close()


async def test_twenty_thousand_jobs_all_come_back() -> None:
    threads = TaskThreads(threads_max=64)
    done = 0
    for _ in range(400):
        results = await asyncio.gather(*(threads.run(lambda n=n: n) for n in range(50)))
        assert results == list(range(50))
        done += len(results)
    assert done == 20_000
    threads.close()


async def test_beyond_the_cap_a_job_is_refused_and_the_others_go_on() -> None:
    threads = TaskThreads(threads_max=3)
    gate = threading.Event()
    blocked = [threads.run(gate.wait) for _ in range(3)]
    with pytest.raises(NestingTooDeepError) as caught:
        threads.run(gate.wait)
    assert caught.value.limit == 3
    gate.set()
    assert all(await asyncio.gather(*blocked))
    threads.close()


async def test_a_system_without_room_for_a_thread_refuses_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = TaskThreads()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(NestingTooDeepError):
            await threads.run(lambda: 1)
    assert await threads.run(lambda: 2) == 2
    threads.close()


async def test_a_job_runs_in_the_context_of_whoever_asked() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
    threads = TaskThreads()
    name.set("anna")
    assert await threads.run(name.get) == "anna"
    name.set("bert")
    assert await threads.run(name.get) == "bert"
    threads.close()


async def test_a_cancelled_wait_leaves_the_thread_usable() -> None:
    threads = TaskThreads()
    gate = threading.Event()
    waiting = threads.run(gate.wait)
    waiting.cancel()
    gate.set()
    assert await threads.run(lambda: "next") == "next"
    threads.close()


async def test_a_job_has_no_running_loop() -> None:
    threads = TaskThreads()

    async def inner() -> str:
        await asyncio.sleep(0)
        return "own loop"

    assert await threads.run(lambda: asyncio.run(inner())) == "own loop"
    threads.close()


async def test_closed_threads_end() -> None:
    threads = TaskThreads()
    used: set[threading.Thread] = set()

    def note() -> None:
        used.add(threading.current_thread())
        time.sleep(0.01)

    await asyncio.gather(*(threads.run(note) for _ in range(10)))
    assert used
    threads.close()
    async with asyncio.timeout(5):
        while any(thread.is_alive() for thread in used):
            await asyncio.sleep(0.005)
