"""Salt, version and a policy of one's own each make another key."""

import uuid
from typing import Any

import millstream

env = millstream.TaskEnvironment("cache_policies")


class Release:
    """Results hold for one release of the program."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_version(self, salt: str, params: millstream.VersionParameters[..., Any]) -> str:
        assert params.func is not None
        return f"{params.func.__name__}-{self.name}-{salt}"


@env.task(cache="auto")
async def token(seed: str) -> str:
    return uuid.uuid4().hex


@env.task
async def main() -> list[bool]:
    seed = uuid.uuid4().hex

    async def under(cache: millstream.Cache) -> str:
        return await token.override(cache=cache)(seed)

    plain = await token(seed)
    salted = await under(millstream.Cache("auto", salt="v2"))
    first = await under(millstream.Cache("auto", policies=Release("1")))
    again = await under(millstream.Cache("auto", policies=[Release("1")]))
    second = await under(millstream.Cache("auto", policies=Release("2")))
    named = await under(millstream.Cache("override", version_override="1.0"))
    renamed = await under(millstream.Cache("auto", version_override="1.0"))
    distinct = len({plain, salted, first, second, named}) == 5
    return [distinct, first == again, named == renamed, await token(seed) == plain]


EXPECT = [True, True, True, True]
