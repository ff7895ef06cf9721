"""A tuple is several outputs, also of the root."""

import millstream

env = millstream.TaskEnvironment("tuple_outputs")


@env.task
async def pair(n: int) -> tuple[int, str]:
    return n, str(n)


@env.task
async def main() -> tuple[int, str, list[int]]:
    number, text = await pair(4)
    return number, text, [number]


EXPECT = (4, "4", [4])
