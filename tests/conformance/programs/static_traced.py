"""An ordinary task is traced once into a plan; what is given then may steer its code."""

import millstream

env = millstream.TaskEnvironment("static_traced")


@env.task
async def add(a: int, b: int) -> int:
    return a + b


@env.task
async def chain(length: int, start: int) -> int:
    value = start
    for step in range(length):
        value = await add(value, step)
    return value


@env.task
async def main() -> list[object]:
    plan = millstream.plan(chain, length=4)
    made: int = await plan(start=10)
    return [len(plan.nodes), list(plan.inputs), plan.edges[:1], made]


EXPECT = [4, ["start"], (("add#1", "add#2"),), 16]
