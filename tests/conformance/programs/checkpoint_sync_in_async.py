"""The sync forms of a checkpoint work in async code too."""

import millstream

env = millstream.TaskEnvironment("checkpoint_sync_in_async")


@env.task(retries=1)
async def trains() -> int:
    checkpoint = millstream.ctx().checkpoint
    restored = checkpoint.load_sync()
    if restored is None:
        checkpoint.save_sync(b"w" * 50_000)
        raise OSError("again")
    return restored.stat().st_size


@env.task
async def main() -> int:
    return await trains()


EXPECT = 50_000
