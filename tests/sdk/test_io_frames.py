"""Tables: written when they leave, read when they are asked for, as what is asked for."""

from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import millstream
from millstream import storage
from millstream._values import encode, inputs_hash
from millstream.errors import RuntimeDataValidationError
from millstream.io import PARQUET, DataFrame, HashFunction

env = millstream.TaskEnvironment("io_frames")
FRAME = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"], "c": [0.5, 1.5, 2.5]})
BY_SUM = HashFunction.from_fn(lambda frame: str(int(frame["a"].sum())))
KINDS: list[type] = [pd.DataFrame, pa.Table, pl.DataFrame, pl.LazyFrame]


def frame_of(kind: type) -> Any:
    if kind is pd.DataFrame:
        return FRAME.copy()
    if kind is pa.Table:
        return pa.Table.from_pandas(FRAME)
    frame = pl.DataFrame(FRAME.to_dict(orient="list"))
    return frame.lazy() if kind is pl.LazyFrame else frame


def rows(frame: Any) -> dict[str, list[object]]:
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pd.DataFrame):
        return {str(k): v for k, v in frame.to_dict(orient="list").items()}
    return frame.to_pydict() if isinstance(frame, pa.Table) else frame.to_dict(as_series=False)


@pytest.fixture(autouse=True)
def _runs_are_local() -> None:
    millstream.init(mode="local")


def kept(tmp_path: Path, frame: Any, format_: str = PARQUET) -> DataFrame:
    """Return the reference to a frame that was written."""
    reference = DataFrame.wrap_df(frame, uri=str(tmp_path / "kept"))
    draft = reference.draft(format_)
    draft.write()
    return DataFrame.from_existing_remote(draft.uri, format=draft.format)


# ------------------------------------------------------------------ the model


def test_a_table_in_memory_has_no_place_yet() -> None:
    for made in (DataFrame.from_df(FRAME), DataFrame.wrap_df(FRAME)):
        assert (made.uri, made.format, made.hash) == (None, "", None)
        assert made.val is FRAME
        assert made.metadata is made.literal is None
    assert (DataFrame.columns(), DataFrame.column_names()) == ({}, [])


def test_a_table_that_exists_has_a_place() -> None:
    made = DataFrame.from_existing_remote("s3://b/t.parquet", format="parquet", hash="h")
    assert (made.uri, made.format, made.hash, made.val) == (
        "s3://b/t.parquet", "parquet", "h", None,
    )  # fmt: skip
    assert made.metadata is not None
    assert made.literal is not None
    assert made.metadata.structured_dataset_type.format == "parquet"
    assert made.literal.uri == made.uri
    assert made.model_dump() == {"uri": "s3://b/t.parquet", "format": "parquet"}
    assert DataFrame.schema_match(DataFrame.model_json_schema())


async def test_a_hash_comes_from_a_method_or_as_it_is() -> None:
    assert DataFrame.from_local_sync(FRAME, hash_method="h").hash == "h"
    assert (await DataFrame.from_local(FRAME, hash_method=BY_SUM)).hash == "6"
    assert DataFrame.from_local_sync(FRAME).hash is None


async def test_what_to_read_it_as_must_be_said() -> None:
    with pytest.raises(ValueError, match="No dataframe type set"):
        await DataFrame.wrap_df(FRAME).all()
    with pytest.raises(ValueError, match="Failed to find a handler"):
        DataFrame.wrap_df(FRAME).open(dict).all_sync()
    with pytest.raises(ValueError, match="neither a frame nor a uri"):
        DataFrame().open(pd.DataFrame).all_sync()


# ------------------------------------------------------------------ content


@pytest.mark.parametrize("format_", ["parquet", "csv"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", KINDS)
def test_each_library_reads_what_the_others_write(
    kind: type, asked: type, format_: str, tmp_path: Path
) -> None:
    reference = kept(tmp_path, frame_of(kind), format_)
    frame = reference.open(asked).all_sync()
    assert isinstance(frame, asked)
    assert rows(frame) == rows(FRAME)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_frame_in_memory_is_read_as_another_class(kind: type) -> None:
    frame = await DataFrame.wrap_df(FRAME).open(kind).all()
    assert isinstance(frame, kind)
    assert rows(frame) == rows(FRAME)


async def test_a_large_table_comes_in_pieces(tmp_path: Path) -> None:
    large = pd.DataFrame({"n": range(150_000)})
    reference = kept(tmp_path, large)
    pieces = [piece async for piece in reference.open(pd.DataFrame).iter()]
    assert len(pieces) == 3
    assert pd.concat(pieces)["n"].tolist() == large["n"].tolist()
    awaited = [p.num_rows async for p in await reference.open(pa.Table).iter()]
    assert sum(awaited) == 150_000
    assert (
        sum(len(piece) for piece in DataFrame.wrap_df(large).open(pd.DataFrame).iter()) == 150_000
    )


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    for n in range(3):
        pd.DataFrame({"n": [n]}).to_parquet(tmp_path / f"part-{n}.parquet")
    (tmp_path / "_SUCCESS").touch()
    table = DataFrame.from_existing_remote(str(tmp_path), format="parquet")
    assert table.open(pd.DataFrame).all_sync()["n"].tolist() == [0, 1, 2]


def test_a_file_is_read_as_its_name_says(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    table = DataFrame.from_existing_remote(str(tmp_path / "t.csv"))
    assert rows(table.open(pd.DataFrame).all_sync()) == rows(FRAME)
    with pytest.raises(ValueError, match="one of the formats"):
        DataFrame.from_existing_remote("/x", format="orc").open(pd.DataFrame).all_sync()
    with pytest.raises(FileNotFoundError):
        DataFrame.from_existing_remote(str(tmp_path / "none")).open(pd.DataFrame).all_sync()


def test_a_table_lies_in_an_object_store() -> None:
    uri = "memory://tables/one"
    draft = DataFrame.wrap_df(FRAME, uri=uri).draft("")
    draft.write()
    assert storage.exists_sync(f"{uri}/00000")
    table = DataFrame.from_existing_remote(uri, format="parquet")
    assert rows(table.open(pl.DataFrame).all_sync()) == rows(FRAME)


# ------------------------------------------------------------------ on their way


@env.task
async def as_pandas(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.head(2)


@env.task
async def as_reference(frame: DataFrame) -> DataFrame:
    return frame


@env.task
async def as_arrow(frame: pa.Table) -> int:
    return int(frame.num_rows)


@env.task
async def as_csv(frame: pd.DataFrame) -> Annotated[DataFrame, "csv"]:
    return DataFrame.wrap_df(frame)


@env.task
async def subset(frame: Annotated[DataFrame, OrderedDict(a=int, c=float)]) -> pd.DataFrame:
    return await frame.open(pd.DataFrame).all()


@pytest.mark.parametrize("given", ["native", "wrapped", "other library"])
def test_every_task_takes_every_table(given: str) -> None:
    frame: Any = {"native": FRAME, "wrapped": DataFrame.wrap_df(FRAME)}.get(given)
    if frame is None:
        frame = DataFrame.wrap_df(frame_of(pl.DataFrame))
    assert len(millstream.run(as_pandas, frame).outputs()[0]) == 2
    if given != "native":  # A frame of one library is no frame of another one.
        assert millstream.run(as_arrow, frame).outputs()[0] == 3
    reference = millstream.run(as_reference, frame).outputs()[0]
    assert rows(reference.open(pd.DataFrame).all_sync()) == rows(FRAME)
    assert reference.format == "parquet"
    assert list(millstream.run(subset, frame).outputs()[0].columns) == ["a", "c"]
    text = millstream.run(as_csv, FRAME).outputs()[0]
    assert text.format == "csv"
    assert (Path(text.uri) / "data.csv").read_text().startswith("a,b,c")


@pytest.mark.parametrize("wrong", [1, "x", {"a": 1}, [1]])
def test_what_is_no_table_is_refused(wrong: object) -> None:
    with pytest.raises(RuntimeDataValidationError, match="DataFrame"):
        encode(wrong, DataFrame)


@env.task
async def untyped(frame: Any) -> Any:
    return frame


def test_a_frame_keeps_what_parquet_can_hold_also_without_an_annotation() -> None:
    when = pd.to_datetime(["2024-01-01", "2024-06-01"]).astype("datetime64[us]")
    frame = pd.DataFrame({"t": when, "c": pd.Categorical(["x", "y"])}, index=["i", "j"])
    pd.testing.assert_frame_equal(millstream.run(untyped, frame).outputs()[0], frame)


def content_hash(frame: object, annotation: Any = DataFrame) -> bytes:
    return inputs_hash(b"\x81\xa1f" + encode(frame, annotation)[1])


def test_equal_frames_are_equal_inputs_and_a_hash_stands_for_them() -> None:
    assert content_hash(FRAME) == content_hash(FRAME.copy()) != content_hash(FRAME.head(1))
    other = FRAME.assign(b="w")
    assert content_hash(FRAME) != content_hash(other)
    hashed = Annotated[pd.DataFrame, BY_SUM]
    assert content_hash(FRAME, hashed) == content_hash(other, hashed)


def test_an_annotation_names_one_format_and_one_hash() -> None:
    with pytest.raises(RuntimeDataValidationError, match="names two of format"):
        encode(FRAME, Annotated[pd.DataFrame, "csv", "parquet"])
