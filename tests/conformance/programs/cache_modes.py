"""`auto` reuses a result, `override` and `disable` do not."""

import uuid

import millstream

env = millstream.TaskEnvironment("cache_modes")


@env.task(cache="auto")
async def token(n: int) -> str:
    return uuid.uuid4().hex


@env.task
async def main() -> list[bool]:
    first = await token(1)
    again = await token(1)
    other = await token(2)
    forced = await token.override(cache="override")(1)
    stored = await token(1)
    uncached = await token.override(cache="disable")(1)
    return [first == again, first == other, first == forced, forced == stored, stored == uncached]


EXPECT = [True, False, False, True, False]
