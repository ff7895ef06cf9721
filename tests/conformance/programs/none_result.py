"""A task may give nothing; None travels as an input, too."""

import millstream

env = millstream.TaskEnvironment("none_result")
CALLS = []


@env.task
async def nothing(value: int | None) -> None:
    CALLS.append(value)


@env.task
async def main() -> None:
    assert await nothing(None) is None


EXPECT = None
