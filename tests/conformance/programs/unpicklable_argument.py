"""An argument that cannot leave its process is refused where it is passed."""

import threading

import millstream
from millstream.errors import RestrictedTypeError

env = millstream.TaskEnvironment("unpicklable_argument")


@env.task
async def child(thing: object) -> None:
    del thing


@env.task
async def main() -> bool:
    try:
        await child(threading.Lock())
    except RestrictedTypeError as exc:
        return "lock" in str(exc) and "thing" in str(exc)
    return False


EXPECT = True
