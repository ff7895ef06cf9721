"""`forward` is a plain call everywhere; a call inside a trace must be one."""

import millstream
from millstream import errors

env = millstream.TaskEnvironment("forward_and_plain")


@env.task
def halve(n: int) -> int:
    return n // 2


@env.task
async def negate(n: int) -> int:
    return -n


@millstream.trace
async def step(n: int) -> int:
    return halve.forward(n) + await negate.forward(n)


@millstream.trace
async def wrong(n: int) -> int:
    return await negate(n)


@env.task
async def main() -> list[object]:
    found: list[object] = [await step(10)]
    try:
        await wrong(1)
    except errors.TraceDoesNotAllowNestedTasksError as exc:
        found.append(exc.code)
    try:
        halve(3)
    except errors.SyncTaskCallInAsyncContextError as exc:
        found.append(exc.code)
    return found


EXPECT = [-5, "TraceDoesNotAllowNestedTasksError", "SyncTaskCallInAsyncContextError"]
