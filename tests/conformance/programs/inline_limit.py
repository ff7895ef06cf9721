"""Inputs over the task's own limit are refused before anything runs."""

import millstream
from millstream.errors import InlineIOMaxBytesBreached

env = millstream.TaskEnvironment("inline_limit")


@env.task(max_inline_io_bytes=1000)
async def child(text: str) -> int:
    return len(text)


@env.task
async def main() -> list[object]:
    small = await child("x" * 10)
    try:
        return [small, await child("x" * 2000)]
    except InlineIOMaxBytesBreached:
        return [small, "refused"]


EXPECT = [10, "refused"]
