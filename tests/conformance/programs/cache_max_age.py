"""A result that is older than `max_age` is computed anew; without one it never is too old."""

import asyncio
import datetime as dt
import uuid

import millstream

env = millstream.TaskEnvironment("cache_max_age")


@env.task(cache="auto")
async def token(seed: str) -> str:
    return uuid.uuid4().hex


def aged(age: dt.timedelta | int | None) -> millstream.Cache:
    return millstream.Cache("auto", max_age=age)


@env.task
async def main() -> list[bool]:
    seed = uuid.uuid4().hex
    first = await token(seed)
    await asyncio.sleep(0.4)
    young = await token.override(cache=aged(60))(seed)
    endless = await token.override(cache=aged(0))(seed)
    anew = await token.override(cache=aged(dt.timedelta(milliseconds=200)))(seed)
    stored = await token(seed)
    return [first == young, first == endless, first == anew, anew == stored]


EXPECT = [True, True, False, True]
