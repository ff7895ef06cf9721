"""Strings of a `custom_context` block reach every task below it, and are gone after the block."""

import json

import millstream

env = millstream.TaskEnvironment("custom_context_travels")


@env.task
def sync_leaf() -> dict[str, str]:
    return millstream.get_custom_context()


@env.task
async def leaf() -> dict[str, str]:
    return json.loads(json.dumps(millstream.ctx().custom_context))  # It is a plain dict.


@env.task
async def middle() -> list[dict[str, str]]:
    with millstream.custom_context(b="middle"):
        inner = await leaf()
    return [await leaf(), inner, await sync_leaf.aio()]


@env.task
async def main() -> list[object]:
    before = await leaf()
    with millstream.custom_context(a="1"):
        with millstream.custom_context(a="2", b="x"):
            nested = await middle()
        outer = [await leaf(), millstream.get_custom_context()]
        mapped = [one async for one in millstream.map.aio(shout, [1, 2])]
    return [before, nested, outer, mapped, await leaf()]


@env.task
async def shout(n: int) -> str:
    return f"{n}{millstream.get_custom_context()['a']}"


EXPECT = [
    {},
    [{"a": "2", "b": "x"}, {"a": "2", "b": "middle"}, {"a": "2", "b": "x"}],
    [{"a": "1"}, {"a": "1"}],
    ["11", "21"],
    {},
]
