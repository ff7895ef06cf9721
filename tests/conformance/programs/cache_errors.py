"""A failure is never cached: the next identical call runs again."""

import tempfile
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("cache_errors")


@env.task(cache="auto")
async def second_time(folder: str) -> str:
    mark = Path(folder) / "tried"
    if not mark.exists():
        mark.touch()
        raise RuntimeError("not yet")
    return "ready"


@env.task
async def main() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            await second_time(folder)
        except millstream.errors.RuntimeUserError as error:
            first = error.code
        return [first, await second_time(folder), await second_time(folder)]


EXPECT = ["RuntimeError", "ready", "ready"]
