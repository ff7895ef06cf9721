"""A batcher brings the records of many producers to one function."""

import asyncio

import millstream
from millstream.extras import DynamicBatcher, Prompt, TokenBatcher

env = millstream.TaskEnvironment("batches")


async def lengths(batch: list[str]) -> list[int]:
    return [len(text) for text in batch]


async def answers(batch: list[Prompt]) -> list[str]:
    return [prompt.text[::-1] for prompt in batch]


@env.task
async def main() -> list[object]:
    found: list[object] = []
    async with DynamicBatcher(lengths, max_batch_size=2, batch_timeout_s=0.01) as batcher:
        futures = await batcher.submit_batch(["a", "bb", "ccc"])
        found += await asyncio.gather(*futures)
    found.append(batcher.stats.total_completed)
    async with TokenBatcher(answers, target_batch_tokens=4) as tokens:
        found.append(await (await tokens.submit(Prompt("what?"))))
    return found


EXPECT = [1, 2, 3, 3, "?tahw"]
