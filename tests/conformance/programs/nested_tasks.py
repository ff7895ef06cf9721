"""Tasks call tasks that call tasks."""

import millstream

env = millstream.TaskEnvironment("nested_tasks")


@env.task
async def leaf(n: int) -> int:
    return n + 1


@env.task
async def middle(n: int) -> int:
    return 10 * await leaf(n) + await leaf(n + 1)


@env.task
async def main() -> int:
    return await middle(1) + await middle(2)


EXPECT = 23 + 34
