"""Identical inputs of a map are computed once; a sync task may wait for another as well."""

import uuid

import millstream

env = millstream.TaskEnvironment("cache_of_sync_map")


@env.task(cache=millstream.Cache("auto", serialize=True))
def token(n: int, seed: str) -> str:
    return uuid.uuid4().hex


@env.task
def main() -> list[int]:
    seed = uuid.uuid4().hex
    found = list(millstream.map(token, [1, 2, 1, 3, 2, 1], [seed] * 6))
    return [len(found), len(set(found)), len({found[0], found[2], found[5]})]


EXPECT = [6, 3, 1]
