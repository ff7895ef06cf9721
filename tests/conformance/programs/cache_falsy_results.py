"""None, 0, an empty text and an empty list are results like any other."""

import tempfile
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("cache_falsy_results")


@env.task(cache="auto")
async def nothing(folder: str) -> None:
    (Path(folder) / f"none-{len(list(Path(folder).iterdir()))}").touch()


@env.task(cache="auto")
async def zero(folder: str) -> int:
    (Path(folder) / f"zero-{len(list(Path(folder).iterdir()))}").touch()
    return 0


@env.task(cache="auto")
async def empty(folder: str) -> tuple[str, list[int]]:
    (Path(folder) / f"empty-{len(list(Path(folder).iterdir()))}").touch()
    return "", []


@env.task
async def main() -> list[object]:
    with tempfile.TemporaryDirectory() as folder:
        results = [await task(folder) for task in (nothing, zero, empty) for _ in range(3)]
        return [len(list(Path(folder).iterdir())), results[2], results[5], results[8]]


EXPECT = [3, None, 0, ("", [])]
