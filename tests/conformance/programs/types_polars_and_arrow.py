"""Frames of polars and tables of Arrow; a lazy frame comes back lazy."""

import polars as pl
import pyarrow as pa

import millstream

env = millstream.TaskEnvironment("types_polars_and_arrow")


@env.task
def evens(frame: pl.DataFrame) -> pl.LazyFrame:
    return frame.lazy().filter(pl.col("n") % 2 == 0)


@env.task
def total(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.col("n").sum()).collect().item())


@env.task
def to_arrow(series: pl.Series) -> pa.Table:
    return pa.table({series.name: series.to_list()})


@env.task
def batches(table: pa.Table) -> list[pa.RecordBatch]:
    return table.to_batches(max_chunksize=2)


@env.task
async def main() -> list[object]:
    frame = pl.DataFrame({"n": [1, 2, 3, 4]})
    lazy = await evens.aio(frame)
    table = await to_arrow.aio(frame["n"])
    made = await batches.aio(table)
    return [
        type(lazy).__name__,
        await total.aio(lazy),
        table.to_pydict(),
        [batch.num_rows for batch in made],
    ]


EXPECT = ["LazyFrame", 6, {"n": [1, 2, 3, 4]}, [2, 2]]
