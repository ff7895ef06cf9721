"""A retry knows its number, and the last failure is the one that is raised."""

import millstream

env = millstream.TaskEnvironment("retries_number")


@env.task(retries=millstream.RetryStrategy(2, millstream.Backoff(0.01)))
async def flaky(good: int) -> int:
    number = millstream.ctx().attempt_number
    if number != good:
        raise ConnectionError(f"attempt {number}")
    return number


@env.task
async def main() -> list[int | str]:
    found: list[int | str] = [await flaky(0), await flaky(2)]
    try:
        await flaky(7)
    except ConnectionError as exc:
        found.append(str(exc))
    return found


EXPECT = [0, 2, "attempt 2"]
