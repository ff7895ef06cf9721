"""A crash costs one attempt; the next one is well."""

import ctypes
import time

import millstream

env = millstream.TaskEnvironment("worker_segfaults")


@env.task
def crash_once() -> int:
    if not millstream.ctx().attempt_number:
        time.sleep(0.1)
        ctypes.string_at(0)
    return millstream.ctx().attempt_number or 0


@env.task
async def main() -> bool:
    return await crash_once.aio() > 0


EXPECT = True
