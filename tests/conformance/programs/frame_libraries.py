"""pandas, pyarrow and polars read each other's tables."""

import pandas as pd
import polars as pl
import pyarrow as pa

import millstream
from millstream.io import DataFrame

env = millstream.TaskEnvironment("frame_libraries")


@env.task
async def from_pandas() -> pd.DataFrame:
    return pd.DataFrame({"n": [1, 2], "s": ["a", "b"]})


@env.task
async def through_arrow(table: pa.Table) -> pa.Table:
    return table.append_column("m", pa.array([3, 4]))


@env.task
async def through_polars(frame: pl.DataFrame) -> pl.LazyFrame:
    return frame.lazy().with_columns(pl.col("n") * 10)


@env.task
async def to_pandas(frame: pd.DataFrame) -> list[list[object]]:
    return [list(frame.columns), frame["n"].tolist(), frame["m"].tolist()]


@env.task
async def any_of(frame: DataFrame) -> list[int]:
    return [
        len(await frame.open(pd.DataFrame).all()),
        (await frame.open(pa.Table).all()).num_rows,
        (await frame.open(pl.DataFrame).all()).height,
    ]


@env.task
async def main() -> list[object]:
    table = await through_arrow(pa.Table.from_pandas(await from_pandas()))
    lazy = await through_polars(pl.from_arrow(table))
    counts = await any_of(DataFrame.wrap_df(table))
    return [await to_pandas(lazy.collect().to_pandas()), counts, type(lazy).__name__]


EXPECT = [[["n", "s", "m"], [10, 20], [3, 4]], [2, 2, 2], "LazyFrame"]
