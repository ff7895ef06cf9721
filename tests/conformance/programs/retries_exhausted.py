"""What fails in its last attempt is told from what had none, and is still what it was."""

import millstream
from millstream.errors import NonRecoverableError, RetriesExhaustedError, RuntimeUserError

env = millstream.TaskEnvironment("retries_exhausted")


@env.task(retries=millstream.RetryStrategy(1, millstream.Backoff(0.01)))
async def fails(how: type[Exception]) -> None:
    raise how(f"attempt {millstream.ctx().attempt_number}")


@env.task(retries=millstream.RetryStrategy(1, millstream.Backoff(0.01)))
async def passes_on(how: type[Exception]) -> None:
    await fails.override(retries=0)(how)


async def caught(task: millstream.Task[..., None], how: type[Exception]) -> list[object]:
    try:
        await task.aio(how)
    except RetriesExhaustedError as exc:
        return ["exhausted", exc.code, str(exc), isinstance(exc, how)]
    except RuntimeUserError as exc:
        return ["user", exc.code, str(exc), isinstance(exc, how)]
    return []


@env.task
async def main() -> list[list[object]]:
    return [
        await caught(fails, ValueError),
        await caught(fails.override(retries=0), ValueError),
        await caught(fails, NonRecoverableError),
        await caught(passes_on, ValueError),
    ]


EXPECT = [
    ["exhausted", "ValueError", "attempt 1", True],
    ["user", "ValueError", "attempt 0", True],
    ["user", "NonRecoverableError", "attempt 0", True],
    ["exhausted", "ValueError", "attempt 0", True],
]
