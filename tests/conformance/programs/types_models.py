"""Pydantic models: nested, discriminated, generic, with defaults; dicts at any depth."""

import enum
from datetime import UTC, datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, RootModel, field_validator

import millstream

env = millstream.TaskEnvironment("types_models")
T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    color: Color = Color.RED


class Owner(BaseModel):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []
    born: datetime | None = None
    best: Cat | Dog | None = None

    @field_validator("pets")
    @classmethod
    def not_too_many(cls, pets: list[Cat | Dog]) -> list[Cat | Dog]:
        assert len(pets) < 3, "too many pets"
        return pets


class Page(BaseModel, Generic[T]):
    items: list[T]


class Tags(RootModel[list[str]]):
    pass


@env.task
def adopt(owner: Owner) -> Owner:
    return Owner(pets=[*owner.pets, Dog()], born=owner.born, best=owner.best)


@env.task
def all_of(owners: list[Owner], by_name: dict[str, Cat]) -> Page[Cat | Dog]:
    return Page[Cat | Dog](items=[pet for o in owners for pet in o.pets] + list(by_name.values()))


@env.task
def tagged(tags: Tags, page: Page[int]) -> list[int]:
    return page.items * len(tags.root)


@env.task
async def main() -> list[object]:
    found = await adopt.aio(Owner(pets=[Cat()], born=datetime(2026, 1, 1, tzinfo=UTC), best=Dog()))
    from_dicts = await all_of.aio(
        [{"pets": [{"kind": "dog"}, {"kind": "cat", "lives": 1}]}],  # type: ignore[list-item]
        {"tom": {"lives": "7"}},  # type: ignore[dict-item]
    )
    try:
        await adopt.aio({"pets": [{}, {}, {}]})  # type: ignore[arg-type]
    except TypeError as exc:
        refused = type(exc).__name__
    return [found, from_dicts.items, await tagged.aio(["a", "b"], {"items": [1]}), refused]  # type: ignore[arg-type]


EXPECT = [
    Owner(pets=[Cat(), Dog()], born=datetime(2026, 1, 1, tzinfo=UTC), best=Dog()),
    [Dog(), Cat(lives=1), Cat(lives=7)],
    [1, 1],
    "RuntimeDataValidationError",
]
