"""`max_action_concurrency`: how many actions of one run are dispatched at once."""

import asyncio
import time

import pytest

import millstream as flyte

env = flyte.TaskEnvironment("concurrency")


@env.task
async def child(_n: int) -> tuple[float, float]:
    began = time.monotonic()
    await asyncio.sleep(0.05)
    return began, time.monotonic()


@env.task
async def parent(_n: int) -> list[tuple[float, float]]:
    return list(await asyncio.gather(child(0), child(1)))


@env.task
async def flat() -> int:
    return most_at_once(list(await asyncio.gather(*(child(n) for n in range(8)))))


@env.task
async def nested() -> int:
    """Six parents of two: waiting parents must not keep their children from running."""
    found = await asyncio.gather(*(parent(n) for n in range(6)))
    return most_at_once([span for spans in found for span in spans])


def most_at_once(spans: list[tuple[float, float]]) -> int:
    changes = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    most = here = 0
    for _, change in changes:
        here += change
        most = max(most, here)
    return most


@pytest.mark.parametrize("most", [2, 3])
def test_no_more_children_run_at_once_than_the_run_may(most: int) -> None:
    run = flyte.with_runcontext(mode="local", max_action_concurrency=most).run(flat)
    assert 1 <= run.result() <= most


def test_parents_that_wait_do_not_count() -> None:
    run = flyte.with_runcontext(mode="local", max_action_concurrency=2).run(nested)
    assert 1 <= run.result() <= 2


def test_without_a_limit_all_of_them_run_at_once() -> None:
    assert flyte.with_runcontext(mode="local").run(flat).result() > 3
