"""A sync task calls another one plainly and blocks until it is over."""

import millstream

env = millstream.TaskEnvironment("sync_calls_sync")


@env.task
def half(n: int) -> float:
    return n / 2


@env.task
def main() -> list[float]:
    return [half(n) for n in range(3)]


EXPECT = [0.0, 0.5, 1.0]
