"""Pydantic models arrive validated."""

from pydantic import BaseModel, Field

import millstream
from millstream.errors import RuntimeDataValidationError

env = millstream.TaskEnvironment("pydantic_models")


class Item(BaseModel):
    name: str
    count: int = Field(ge=0)


class Basket(BaseModel):
    items: list[Item] = []
    note: str | None = None


@env.task
def doubled(basket: Basket) -> Basket:
    return Basket(items=[Item(name=i.name, count=i.count * 2) for i in basket.items])


@env.task
async def main() -> list[object]:
    found = await doubled.aio(Basket(items=[Item(name="egg", count=6)], note="x"))
    try:
        await doubled.aio({"items": 3})  # type: ignore[arg-type]  # wrong on purpose
    except RuntimeDataValidationError as exc:
        return [found, exc.parameter]
    return [found]


EXPECT = [Basket(items=[Item(name="egg", count=12)]), "basket"]
