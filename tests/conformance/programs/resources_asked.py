"""Resources are what a task asks for; an agent that says nothing of its machine takes all."""

import millstream
from millstream import Resources

env = millstream.TaskEnvironment("resources_asked", resources=Resources(cpu=1, memory="700Mi"))


@env.task
async def plain() -> str:
    return "own"


@env.task(interruptible=True, resources=Resources(gpu="T4:1", disk="10Gi", shm="auto"))
async def special() -> str:
    return "special"


@env.task
async def main() -> list[str]:
    wide = plain.override(resources=Resources(cpu=(1, 2), memory=("100Mi", "700Mi"), gpu=1))
    return [await plain(), await special(), await wide()]


EXPECT = ["own", "special", "own"]
