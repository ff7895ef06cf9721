"""Errors that no language can send arrive as their text."""

import threading

import millstream
from millstream.errors import RuntimeUserError

env = millstream.TaskEnvironment("odd_errors")


class WithLock(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


@env.task
async def fails(kind: int) -> None:
    if kind == 0:
        raise WithLock
    if kind == 1:
        raise SystemExit(3)
    raise StopIteration(4)


@env.task
async def main() -> list[str]:
    found = []
    for kind in range(2):
        try:
            await fails(kind)
        except RuntimeUserError as exc:
            found.append(f"{exc.code}: {exc}")
    return found


EXPECT = ["WithLock: holds a lock", "SystemExit: 3"]
