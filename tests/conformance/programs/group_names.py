"""The inner group replaces the outer one, and the outer one comes back."""

import millstream

env = millstream.TaskEnvironment("group_names")


@env.task
async def child(n: int) -> int:
    return n


@env.task
async def main() -> list[str]:
    names = []
    with millstream.group("outer"):
        names.append(millstream.ctx().group or "")
        await child(1)
        with millstream.group("inner"):
            names.append(millstream.ctx().group or "")
            await child(1)
        names.append(millstream.ctx().group or "")
    return [*names, millstream.ctx().group or ""]


EXPECT = ["outer", "inner", "outer", ""]
