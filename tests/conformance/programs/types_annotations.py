"""Annotations that are text, aliases, new types, type variables and metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, NewType, Protocol, TypeVar

from pydantic import Field

import millstream

env = millstream.TaskEnvironment("types_annotations")
UserId = NewType("UserId", int)
Number = TypeVar("Number", int, float)
Word = TypeVar("Word", bound=str)
Table = dict[str, "list[Later]"]


@env.task
def users(ids: Sequence[UserId], by_name: Mapping[str, UserId | None]) -> Iterable[UserId]:
    return [*ids, *(each for each in by_name.values() if each is not None)]


@env.task
def twice(number: Number, word: Word) -> list[Number | Word]:
    return [number, word] * 2


@env.task
def named(table: Table, later: Later) -> Annotated[str, "shown"]:
    return f"{later.name} {table['a'][0].name}"


@env.task
def limited(n: Annotated[int, Field(gt=0)], *rest: Later, **more: float) -> list[object]:
    return [n, *(each.name for each in rest), more]


@env.task
def sized(value: Sized, function: Callable[[int], int] | None = None) -> int:
    return function(len(value)) if function else len(value)


@env.task
def bare(value, values: list, table: dict):  # type: ignore[no-untyped-def,type-arg]
    assert value == (1, 2)
    assert values == [{1}]
    assert table == {1: "a"}


class Later:
    def __init__(self, name: str) -> None:
        self.name = name


class Sized(Protocol):
    def __len__(self) -> int: ...


@env.task
async def main() -> list[object]:
    found = await users.aio([UserId(1)], {"a": UserId(2), "b": None})
    return [
        list(found),
        await twice.aio(2.5, "w"),
        await named.aio({"a": [Later("x")]}, Later("y")),
        await limited.aio(3, Later("r"), ratio=1),
        await sized.aio("abc"),
        await sized.aio([1, 2], lambda n: n * 10),
        await bare.aio((1, 2), [{1}], {1: "a"}),
    ]


EXPECT = [[1, 2], [2.5, "w", 2.5, "w"], "y x", [3, "r", {"ratio": 1.0}], 3, 20, None]
