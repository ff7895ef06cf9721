"""`map` hands failures out as values, unless it is told to raise the first."""

import millstream

env = millstream.TaskEnvironment("map_exceptions")


@env.task
async def child(n: int) -> int:
    if n % 2:
        raise KeyError(n)
    return n


@env.task
async def main() -> list[str]:
    found = [
        type(one).__name__ if isinstance(one, Exception) else str(one)
        async for one in millstream.map.aio(child, range(4))
    ]
    try:
        async for one in millstream.map.aio(child, range(4), return_exceptions=False):
            found.append(str(one))
    except KeyError as exc:
        found.append(f"raised {exc.args}")
    return found


EXPECT = ["0", "KeyError", "2", "KeyError", "0", "raised (1,)"]
