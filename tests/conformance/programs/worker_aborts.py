"""A task that aborts its process is a system error to its parent."""

import os

import millstream
from millstream.errors import RuntimeSystemError, WorkerCrashedError

env = millstream.TaskEnvironment("worker_aborts")


@env.task
def crash() -> None:
    os.abort()


@env.task
async def main() -> list[object]:
    try:
        await crash.aio()
    except RuntimeSystemError as exc:
        assert isinstance(exc, WorkerCrashedError)
        return [exc.signal, exc.kind]
    return []


EXPECT = [6, "system"]
