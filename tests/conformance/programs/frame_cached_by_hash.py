"""A hash in the annotation makes equal frames equal inputs; a frame that changed loses it."""

import uuid
from typing import Annotated

import pandas as pd

import millstream
from millstream.io import DataFrame, HashFunction

env = millstream.TaskEnvironment("frame_cached_by_hash")
Hashed = Annotated[
    pd.DataFrame, HashFunction.from_fn(lambda f: str(pd.util.hash_pandas_object(f).sum()))
]


@env.task
async def make(n: int) -> Hashed:
    return pd.DataFrame({"n": [n]})


@env.task(cache="auto")
async def token(frame: pd.DataFrame) -> str:
    return uuid.uuid4().hex


@env.task(cache="auto")
async def token_of_reference(frame: DataFrame) -> str:
    return uuid.uuid4().hex


@env.task
async def main() -> list[bool]:
    one, two, other = await make(1), await make(1), await make(2)
    first = await token(one)
    again = await token(two)
    third = await token(other)
    two.loc[0, "n"] = 7
    changed = await token(two)
    keyed = [DataFrame.from_local_sync(pd.DataFrame({"k": [n]}), hash_method="h") for n in (1, 2)]
    tokens = [await token_of_reference(frame) for frame in keyed]
    return [first == again, first == third, first == changed, tokens[0] == tokens[1]]


EXPECT = [True, False, False, True]
