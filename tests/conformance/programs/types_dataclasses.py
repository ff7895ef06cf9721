"""Dataclasses of every kind, and plain dicts where one is declared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import millstream

env = millstream.TaskEnvironment("types_dataclasses")
T = TypeVar("T")


@dataclass
class Layer:
    size: int
    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Model:
    layers: list[Layer] = field(default_factory=list)
    by_name: dict[str, Layer] = field(default_factory=dict)
    parent: Model | None = None


@dataclass
class Wide(Layer):
    width: int = 2


@dataclass
class Box(Generic[T]):
    item: T


@dataclass(slots=True)
class Squared:
    side: int
    area: int = field(init=False)

    def __post_init__(self) -> None:
        self.area = self.side**2


@env.task
def deepen(model: Model) -> Model:
    return Model(layers=[*model.layers, Layer(9)], by_name=model.by_name, parent=model)


@env.task
def boxed(box: Box[Layer], squared: Squared) -> Box[int]:
    assert isinstance(box.item, Layer)
    return Box(box.item.size + squared.area)


@env.task
def layer(value: Layer) -> str:
    return f"{value!r}"


@env.task
async def main() -> list[object]:
    model = Model(by_name={"a": Layer(1, 2)})
    return [
        await deepen.aio(model) == Model(layers=[Layer(9)], by_name=model.by_name, parent=model),
        await deepen.aio({"layers": [{"size": 3}]}),  # type: ignore[arg-type]
        await boxed.aio(Box(Layer(4)), Squared(3)),
        await layer.aio(Wide(5, width=6)),
        await layer.aio(Layer(1, 3)),
    ]


EXPECT = [
    True,
    Model(layers=[Layer(3), Layer(9)], parent=Model(layers=[Layer(3)])),
    Box(13),
    "Wide(size=5, rate=0.5, width=6)",
    "Layer(size=1, rate=3.0)",
]
