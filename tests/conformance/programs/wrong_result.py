"""A result that does not fit its annotation fails the task, and is not retried."""

import millstream

env = millstream.TaskEnvironment("wrong_result")


@env.task(retries=3)
async def child() -> int:
    return "seven"  # type: ignore[return-value]  # wrong on purpose


@env.task
async def main() -> bool:
    try:
        await child()
    except millstream.errors.RuntimeUserError as exc:
        return "str" in str(exc)
    return False


EXPECT = True
