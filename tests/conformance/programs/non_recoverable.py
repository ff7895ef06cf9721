"""`NonRecoverableError` stops retries."""

import millstream
from millstream.errors import NonRecoverableError

env = millstream.TaskEnvironment("non_recoverable")


@env.task(retries=20)
async def hopeless() -> None:
    raise NonRecoverableError(f"attempt {millstream.ctx().attempt_number}")


@env.task
async def main() -> list[str]:
    try:
        await hopeless()
    except NonRecoverableError as exc:
        return [str(exc), exc.code]
    return []


EXPECT = ["attempt 0", "NonRecoverableError"]
