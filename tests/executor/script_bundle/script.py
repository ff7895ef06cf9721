"""Tasks of the SDK itself, in a script that was started by its file name."""

import dataclasses

import millstream

env = millstream.TaskEnvironment("real")


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2


@env.task
def norm(p: Point) -> int:
    return p.x * p.x + p.y * p.y


@env.task
async def outer(x: int) -> int:
    return await norm.aio(Point(x)) + 1


@env.task
def sync_outer(x: int) -> int:
    print("before the call")
    return norm(Point(x)) + 1


@env.task
async def picky(x: int) -> int:
    raise LookupError(x)


if __name__ == "__main__":
    raise SystemExit("only when it is the main program")
