"""A sync task is run as it is."""

import millstream

env = millstream.TaskEnvironment("sync_task")


@env.task
def main(first: int = 2, second: int = 3) -> int:
    return first * second


EXPECT = 6
