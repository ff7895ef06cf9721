"""A step that failed runs again; one that must not be retried is replayed as an error."""

import millstream
from millstream.errors import NonRecoverableError

env = millstream.TaskEnvironment("trace_errors")


@millstream.trace
async def heals() -> int:
    number = millstream.ctx().attempt_number
    if number == 0:
        raise ConnectionError("not yet")
    return number or 0


@millstream.trace
async def never() -> int:
    raise NonRecoverableError(f"at attempt {millstream.ctx().attempt_number}")


@env.task(retries=1)
async def traced() -> list[int | str]:
    try:
        await never()
        text = ""
    except NonRecoverableError as exc:
        text = str(exc)
    return [await heals(), text]


@env.task
async def main() -> list[int | str]:
    return await traced()


EXPECT = [1, "at attempt 0"]
