"""A run gives its inputs and outputs by name, in the types that are asked for."""

import dataclasses

import millstream

env = millstream.TaskEnvironment("run_values")


@dataclasses.dataclass
class Point:
    x: int
    y: int


@env.task
async def main(n: int = 3, where: Point = Point(1, 2)) -> tuple[int, Point]:  # noqa: B008
    return n, Point(where.y, where.x)


async def after(run: millstream.Run[tuple[int, Point]]) -> list[object]:
    outputs = await run.outputs.aio()
    return [
        dict(await run.inputs.aio()),
        outputs.named_outputs,
        await run.typed_outputs.aio({"o1": Point}),
        await run.typed_inputs.aio({"n": int}),
    ]


EXPECT = [
    {"n": 3, "where": Point(1, 2)},
    {"o0": 3, "o1": Point(2, 1)},
    {"o1": Point(2, 1)},
    {"n": 3},
]
