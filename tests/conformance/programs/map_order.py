"""`map` in a sync task gives results in the order of the inputs."""

import time

import millstream

env = millstream.TaskEnvironment("map_order")


@env.task
def child(n: int, word: str) -> str:
    time.sleep(0.02 if n == 0 else 0)
    return word * n


@env.task
def main() -> list[str]:
    return list(millstream.map(child, range(5), ["a", "b", "c"]))


EXPECT = ["", "b", "cc"]
