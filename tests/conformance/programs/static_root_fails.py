"""A run whose root is a graph fails with the error of the node that failed."""

import millstream

env = millstream.TaskEnvironment("static_root_fails")


@env.task
async def bad(n: int) -> int:
    raise KeyError(f"no {n}")


@env.task(static=True)
async def main(n: int = 4) -> int:
    return await bad(n)


RAISES = "KeyError"
