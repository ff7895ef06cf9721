"""A system error that a task itself raises is retried as any other, and caught as what it is."""

import millstream
from millstream.errors import RuntimeSystemError

env = millstream.TaskEnvironment("system_error_raised")


@env.task(retries=millstream.RetryStrategy(6, millstream.Backoff(0.01)))
async def flaky() -> int:
    number = millstream.ctx().attempt_number
    if number < 6:
        raise RuntimeSystemError("simulated", f"attempt {number}")
    return number


@env.task
async def hopeless() -> int:
    raise RuntimeSystemError("simulated", f"attempt {millstream.ctx().attempt_number}")


@env.task
async def main() -> list[object]:
    try:
        await hopeless()
    except RuntimeSystemError as exc:
        return [await flaky(), exc.code, exc.kind, str(exc)]
    return []


EXPECT = [6, "simulated", "system", "attempt 0"]
