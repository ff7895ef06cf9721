"""A plain call of a sync task from async code is refused, with the way out in the text."""

import millstream
from millstream.errors import SyncTaskCallInAsyncContextError

env = millstream.TaskEnvironment("sync_call_in_async")


@env.task
def child() -> int:
    return 1


@env.task
async def main() -> bool:
    try:
        return child() == 2
    except SyncTaskCallInAsyncContextError as exc:
        return "await child.aio(...)" in str(exc)


EXPECT = True
