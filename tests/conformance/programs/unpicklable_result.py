"""A result that cannot leave its process says so by its type."""

import threading

import millstream
from millstream.errors import ResultNotSerializableError

env = millstream.TaskEnvironment("unpicklable_result")


@env.task
def child() -> object:
    return threading.Lock()


@env.task
async def main() -> bool:
    try:
        await child.aio()
    except ResultNotSerializableError as exc:
        return "lock" in str(exc)
    return False


EXPECT = True
