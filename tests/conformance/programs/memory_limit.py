"""Out of memory is caught, and the call is made again with more."""

import millstream
from millstream.errors import OOMError

env = millstream.TaskEnvironment("memory_limit")


@env.task(resources=millstream.Resources(memory="150Mi"))
def hungry(mib: int) -> int:
    return len(bytearray(mib * 2**20)) >> 20


@env.task
async def main() -> list[object]:
    try:
        return [await hungry.aio(400)]
    except OOMError as exc:
        more = hungry.override(resources=millstream.Resources(memory="900Mi"))
        return [exc.limit_bytes >> 20, await more.aio(400)]


EXPECT = [150, 400]
