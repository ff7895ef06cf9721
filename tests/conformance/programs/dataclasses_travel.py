"""Dataclasses arrive as themselves, nested and with defaults; the callee has a copy."""

from dataclasses import dataclass, field

import millstream

env = millstream.TaskEnvironment("dataclasses_travel")


@dataclass
class Leg:
    name: str
    km: float = 1.5


@dataclass
class Trip:
    legs: list[Leg] = field(default_factory=list)
    stops: dict[str, tuple[int, ...]] = field(default_factory=dict)


@env.task
async def extend(trip: Trip) -> Trip:
    trip.legs.append(Leg("home"))
    return trip


@env.task
async def main() -> list[object]:
    trip = Trip([Leg("out", 2.0)], {"a": (1, 2)})
    longer = await extend(trip)
    return [len(trip.legs), longer]


EXPECT = [1, Trip([Leg("out", 2.0), Leg("home", 1.5)], {"a": (1, 2)})]
