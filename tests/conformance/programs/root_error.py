"""An error of the root is what `run` raises."""

import millstream

env = millstream.TaskEnvironment("root_error")


@env.task
async def child() -> int:
    raise PermissionError(13, "not yours")


@env.task
async def main() -> int:
    return await child() + 1


RAISES = "PermissionError"
