"""The actions of a long map tell what their items were called with, and what they gave."""

import millstream

env = millstream.TaskEnvironment("map_long_details")


@env.task
async def picky(x: int) -> int:
    if x == 2:
        raise ValueError("not two")
    return x * 10


@env.task
async def main() -> int:
    return len([result async for result in millstream.map.aio(picky, range(1_000))])


async def after(run: millstream.Run[int]) -> list[object]:
    first = await millstream.remote.ActionDetails.get.aio(run_name=run.name, name="a1")
    inputs = await first.inputs()
    (outcomes,) = await first.outputs()
    literals = await first.input_literals()
    return [
        first.kind,
        first.task_name,
        len(inputs["items"]),
        inputs["items"][3],
        [type(each).__name__ for each in outcomes[1:4]],
        outcomes[3],
        literals["items"][3],
    ]


EXPECT = [
    "map",
    "map_long_details.picky",
    64,
    {"x": 3},
    ["int", "ValueError", "int"],
    30,
    {"x": 3},
]
