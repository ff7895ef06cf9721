"""When the call that the others wait for fails, the next one runs; each error stays its own."""

import asyncio
import tempfile
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("cache_serialized_failure")


@env.task(cache=millstream.Cache("auto", serialize=True))
async def moody(folder: str) -> int:
    calls = len(list(Path(folder).iterdir()))
    (Path(folder) / str(calls)).touch()
    await asyncio.sleep(0.05)
    if calls < 2:
        raise ValueError(f"call {calls}")
    return calls


@env.task
async def main() -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        calls = (moody(folder) for _ in range(6))
        ended = await asyncio.gather(*calls, return_exceptions=True)
        failed = sum(isinstance(each, BaseException) for each in ended)
        kept = {each for each in ended if isinstance(each, int)}
        return [failed, *kept, len(list(Path(folder).iterdir()))]


EXPECT = [2, 2, 3]
