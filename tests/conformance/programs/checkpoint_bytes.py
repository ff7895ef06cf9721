"""A retry goes on from what the attempt before it saved."""

import millstream

env = millstream.TaskEnvironment("checkpoint_bytes")


@env.task(retries=3)
async def counts() -> list[int]:
    checkpoint = millstream.ctx().checkpoint
    path = await checkpoint.load()
    seen = list(path.read_bytes()) if path is not None else []
    seen.append(millstream.ctx().attempt_number)
    await checkpoint.save(bytes(seen))
    # What an attempt saves is for the attempts after it.
    assert await checkpoint.load() == path
    if len(seen) < 3:
        raise OSError("again")
    return seen


@env.task
async def untouched() -> list[object]:
    checkpoint = millstream.ctx().checkpoint
    return [checkpoint.prev_exists(), await checkpoint.load()]


@env.task
async def main() -> list[object]:
    return [await counts(), await untouched()]


EXPECT = [[0, 1, 2], [False, None]]
