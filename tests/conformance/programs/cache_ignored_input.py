"""An ignored input is not part of the cache key; the version is."""

import uuid

import millstream

env = millstream.TaskEnvironment("cache_ignored_input")
CACHE = millstream.Cache("auto", version_override="1", ignored_inputs="verbose")


@env.task(cache=CACHE)
def token(n: int, verbose: bool) -> str:
    return uuid.uuid4().hex


@env.task
def main() -> list[bool]:
    first = token(1, True)
    newer = token.override(cache=millstream.Cache("auto", version_override="2"))(1, True)
    return [first == token(1, False), first == token(2, True), first == newer]


EXPECT = [True, False, False]
