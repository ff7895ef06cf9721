"""The root task has retries as any other."""

import millstream

env = millstream.TaskEnvironment("retries_of_root")


@env.task(retries=1)
def main() -> int:
    if not millstream.ctx().attempt_number:
        raise TimeoutError("once")
    return 1


EXPECT = 1
