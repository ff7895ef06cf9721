"""Batches of the work of many producers."""

import asyncio

import pytest

from millstream.extras import BatchStats, DynamicBatcher, Prompt, TokenBatcher


class Sized:
    def __init__(self, cost: int) -> None:
        self.cost = cost

    def estimate_cost(self) -> int:
        return self.cost


def recorder(batches: list[list[object]]) -> DynamicBatcher[object, int]:
    async def process(batch: list[object]) -> list[int]:
        batches.append(batch)
        return list(range(len(batch)))

    return DynamicBatcher(process, target_batch_cost=10, max_batch_size=3, batch_timeout_s=0.05)


async def test_a_batch_ends_at_its_cost_its_size_or_its_time() -> None:
    batches: list[list[object]] = []
    async with recorder(batches) as batcher:
        costs = [Sized(6), Sized(6), Sized(1), Sized(1), Sized(1), Sized(1)]
        futures = await batcher.submit_batch(costs)
        assert await asyncio.gather(*futures) == [0, 1, 0, 1, 2, 0]
    assert [len(batch) for batch in batches] == [2, 3, 1]
    stats = batcher.stats
    assert (stats.total_submitted, stats.total_completed, stats.total_batches) == (6, 6, 3)
    assert (stats.total_batch_cost, stats.avg_batch_size) == (16, 2.0)
    assert 0 <= stats.utilization <= 1


async def test_an_explicit_cost_comes_before_an_estimator_and_that_before_the_record() -> None:
    async def process(batch: list[Sized]) -> list[None]:
        return [None] * len(batch)

    async with DynamicBatcher(process, cost_estimator=lambda one: one.cost * 2) as batcher:
        await (await batcher.submit(Sized(5)))
        await (await batcher.submit(Sized(5), estimated_cost=1))
    assert batcher.stats.total_batch_cost == 11


async def test_a_batch_that_is_too_small_waits_for_more_or_for_the_end() -> None:
    batches: list[int] = []

    async def process(batch: list[int]) -> list[int]:
        batches.append(len(batch))
        return batch

    async with DynamicBatcher(process, min_batch_size=3, batch_timeout_s=0.001) as batcher:
        first = await batcher.submit_batch([1, 2])
        done, _ = await asyncio.wait(first, timeout=0.05)
        assert not done
        first.append(await batcher.submit(3))
        assert await asyncio.gather(*first) == [1, 2, 3]
        last = await batcher.submit(4)
    assert (await last, batches) == (4, [3, 1])


async def test_a_failed_batch_fails_its_records_alone() -> None:
    async def process(batch: list[int]) -> list[int]:
        if 0 in batch:
            raise ZeroDivisionError
        return batch[:-1] if 9 in batch else batch

    async with DynamicBatcher(process, max_batch_size=1) as batcher:
        futures = await batcher.submit_batch([0, 1, 9])
        ended = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(each).__name__ for each in ended] == ["ZeroDivisionError", "int", "ValueError"]


async def test_a_batcher_takes_records_only_while_it_runs() -> None:
    batcher = recorder([])
    with pytest.raises(RuntimeError, match="not running"):
        await batcher.submit(Sized(1))
    async with batcher:
        assert batcher.is_running
        with pytest.raises(RuntimeError, match="already running"):
            await batcher.start()
    assert not batcher.is_running
    await batcher.stop()
    async with batcher:
        assert await (await batcher.submit(Sized(1))) == 0


async def test_tokens_are_costs_under_another_name() -> None:
    sizes: list[int] = []

    async def infer(batch: list[Prompt]) -> list[str]:
        sizes.append(len(batch))
        return [prompt.text for prompt in batch]

    async with TokenBatcher(infer, target_batch_tokens=4) as batcher:
        prompts = [Prompt("a" * 4), Prompt("b" * 4), Prompt("c")]
        futures = [await batcher.submit(prompt) for prompt in prompts]
        futures.append(await batcher.submit(Prompt("d"), estimated_tokens=100))
        assert [text[0] for text in await asyncio.gather(*futures)] == ["a", "b", "c", "d"]
    assert sizes == [2, 2]
    assert batcher.stats.total_batch_cost == 2 + 2 + 1 + 100
    with pytest.raises(TypeError, match="inference_fn"):
        TokenBatcher[Prompt, str]()


def test_a_batcher_that_has_done_nothing_is_not_busy() -> None:
    assert BatchStats().utilization == 0
