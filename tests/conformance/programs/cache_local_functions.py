"""A task that travels by value is cached by its own code and by that of its helpers."""

import uuid

import millstream

env = millstream.TaskEnvironment("cache_local_functions")


@env.task
async def main() -> list[bool]:
    seed = uuid.uuid4().hex

    def made(limit: int) -> "millstream.AsyncTask[[str], str]":
        def helper() -> int:
            return limit

        @env.task(cache="auto")
        async def inner(seed: str) -> str:
            return f"{helper()}-{uuid.uuid4().hex}"

        return inner

    one, two = made(1), made(2)
    first = await one(seed)
    return [first == await one(seed), first == await two(seed), (await two(seed))[0] == "2"]


EXPECT = [True, False, True]
