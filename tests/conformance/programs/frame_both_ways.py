"""A pandas frame goes where a `DataFrame` is declared, and the other way round."""

import pandas as pd

import millstream
from millstream.io import DataFrame

env = millstream.TaskEnvironment("frame_both_ways")


@env.task
async def native() -> pd.DataFrame:
    return pd.DataFrame({"n": [1, 2, 3], "s": ["a", "b", "c"]})


@env.task
async def wrapped() -> DataFrame:
    return DataFrame.from_df(pd.DataFrame({"n": [4, 5], "s": ["d", "e"]}))


@env.task
async def total(frame: pd.DataFrame) -> int:
    return int(frame["n"].sum())


@env.task
async def total_of_reference(frame: DataFrame) -> int:
    read = await frame.open(pd.DataFrame).all()
    return int(read["n"].sum())


@env.task
def total_sync(frame: DataFrame) -> int:
    return int(frame.open(pd.DataFrame).all_sync()["n"].sum())


@env.task
async def passed_on(frame: DataFrame) -> DataFrame:
    return frame


@env.task
async def main() -> list[object]:
    one, two = await native(), await wrapped()
    again = await passed_on(two)
    pieces = [len(piece) async for piece in again.open(pd.DataFrame).iter()]
    return [
        await total(one),
        await total_of_reference(one),
        await total(two),
        await total_of_reference(two),
        await total_sync.aio(two),
        again.uri == two.uri,
        two.format,
        sum(pieces),
        list(one.columns),
    ]


EXPECT = [6, 6, 9, 9, 9, True, "parquet", 2, ["n", "s"]]
