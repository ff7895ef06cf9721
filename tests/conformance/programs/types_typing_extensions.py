"""Classes of `typing_extensions` are as good as those of `typing`."""

from dataclasses import dataclass
from typing import Annotated, NotRequired

from typing_extensions import NamedTuple, TypedDict

import millstream

env = millstream.TaskEnvironment("types_typing_extensions")


class Place(TypedDict):
    lat: float
    lon: float
    name: NotRequired[str]


class Leg(NamedTuple):
    start: Place
    km: Annotated[float, "road"]


@dataclass
class Trip:
    legs: list[Leg]
    home: Place


@env.task
async def length(trip: Trip, home: Place) -> float:
    assert isinstance(trip.legs[0], Leg)
    return sum(leg.km for leg in trip.legs) + home["lat"]


@env.task
async def main() -> list[object]:
    home = Place(lat=1.5, lon=2, name="h")
    found = await length(Trip([Leg(home, 3), Leg(Place(lat=0, lon=0), 4)], home), home)
    try:
        await length(Trip([], home), {"lon": 1.0})
    except ValueError as exc:
        return [found, "'lat'" in str(exc)]
    return [found]


EXPECT = [8.5, True]
