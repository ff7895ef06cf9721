"""Classes of attrs and structs of msgspec, nested in each other."""

import attrs
import msgspec

import millstream

env = millstream.TaskEnvironment("types_attrs_and_structs")


class Point(msgspec.Struct, frozen=True):
    x: int
    y: float = 0.0


@attrs.define
class Line:
    points: list[Point]
    name: str = attrs.field(default="line", converter=str.upper)


@attrs.frozen(kw_only=True)
class Plan:
    lines: dict[str, Line] = attrs.field(factory=dict)
    depth: int = attrs.field(default=1, validator=attrs.validators.ge(0))


@env.task
def extended(plan: Plan) -> Plan:
    return attrs.evolve(plan, depth=plan.depth + len(plan.lines["a"].points))


@env.task
async def main() -> list[object]:
    plan = Plan(lines={"a": Line([Point(1), Point(2, 3)])})
    try:
        await extended.aio({"depth": -1})  # type: ignore[arg-type]
    except TypeError as exc:
        refused = type(exc).__name__
    return [
        await extended.aio(plan),
        await extended.aio({"lines": {"a": {"points": [{"x": 1}]}}}),  # type: ignore[arg-type]
        refused,
    ]


EXPECT = [
    Plan(lines={"a": Line([Point(1), Point(2, 3.0)])}, depth=3),
    Plan(lines={"a": Line([Point(1)])}, depth=2),
    "RuntimeDataValidationError",
]
