"""A key of a TypedDict that is not required and not there stays away."""

from typing import NotRequired, TypedDict

import millstream

env = millstream.TaskEnvironment("types_typed_dicts")


class Size(TypedDict):
    width: int
    height: NotRequired[int]


class Item(TypedDict, total=False):
    name: str
    sizes: list[Size]


@env.task
def keys(item: Item) -> list[list[str]]:
    return [list(item), *(list(size) for size in item.get("sizes", []))]


@env.task
def grown(size: Size) -> Size:
    return {**size, "height": size.get("height", 0) + 1}


@env.task
async def main() -> list[object]:
    try:
        await grown.aio({"height": 1})  # type: ignore[typeddict-item]
    except TypeError as exc:
        refused = str(exc)
    return [
        await keys.aio({"sizes": [{"width": 1}, {"height": 2, "width": 1}]}),
        await keys.aio({}),
        await grown.aio({"width": 1}),
        await grown.aio({"width": 1, "more": True}),  # type: ignore[typeddict-unknown-key]
        refused,
    ]


EXPECT = [
    [["sizes"], ["width"], ["height", "width"]],
    [[]],
    {"width": 1, "height": 1},
    {"width": 1, "more": True, "height": 1},
    "grown: size: expected Size with the key 'width', got dict {'height': 1}",
]
