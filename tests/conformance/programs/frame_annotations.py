"""`Annotated` says the format of a table, and which columns its reader gets."""

from collections import OrderedDict
from typing import Annotated

import pandas as pd

import millstream
from millstream.io import DataFrame

env = millstream.TaskEnvironment("frame_annotations")
TWO = OrderedDict(a=int, c=float)


@env.task
async def as_csv() -> Annotated[DataFrame, "csv"]:
    return DataFrame.wrap_df(pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [0.5, 1.5]}))


@env.task
async def as_parquet() -> pd.DataFrame:
    return pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [0.5, 1.5]})


@env.task
async def some(frame: Annotated[DataFrame, TWO]) -> list[str]:
    return list((await frame.open(pd.DataFrame).all()).columns)


@env.task
async def some_native(frame: Annotated[pd.DataFrame, OrderedDict(b=str)]) -> list[str]:
    return list(frame.columns)


@env.task
async def declared() -> Annotated[DataFrame, TWO]:
    return DataFrame.wrap_df(pd.DataFrame({"a": [1], "b": ["x"], "c": [0.5]}))


@env.task
async def every(frame: DataFrame) -> list[str]:
    return list((await frame.open(pd.DataFrame).all()).columns)


@env.task
async def main() -> list[object]:
    text, binary = await as_csv(), await as_parquet()
    return [
        text.format,
        await some(text),
        await some(DataFrame.from_df(binary)),
        await some_native(text),
        await some_native(binary),
        await every(await declared()),
        await every(text),
    ]


EXPECT = ["csv", ["a", "c"], ["a", "c"], ["b"], ["b"], ["a", "c"], ["a", "b", "c"]]
