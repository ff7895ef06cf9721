"""Values far over a message's size travel whole."""

import millstream

env = millstream.TaskEnvironment("large_values")


@env.task
async def grow(content: bytes) -> bytes:
    return content * 2


@env.task
async def main() -> int:
    content = bytes(range(256)) * 4000
    return int(await grow(content) == content * 2)


EXPECT = 1
