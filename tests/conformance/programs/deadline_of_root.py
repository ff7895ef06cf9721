"""The deadline of a task ends it whatever retries are left."""

import asyncio

import millstream

env = millstream.TaskEnvironment("deadline_of_root")


@env.task(timeout=millstream.Timeout(deadline=0.4), retries=50)
async def main() -> None:
    await asyncio.sleep(3600)


RAISES = "DeadlineExceededError"
