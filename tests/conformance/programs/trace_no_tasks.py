"""A task must not be called inside a trace; its `forward` may."""

import millstream
from millstream.errors import TraceDoesNotAllowNestedTasksError

env = millstream.TaskEnvironment("trace_no_tasks")


@env.task
async def child() -> int:
    return 5


@millstream.trace
async def wrong() -> int:
    return await child()


@millstream.trace
async def right() -> int:
    return await child.forward()


@env.task
async def main() -> list[int]:
    try:
        return [await wrong()]
    except TraceDoesNotAllowNestedTasksError:
        return [await right(), 0]


EXPECT = [5, 0]
