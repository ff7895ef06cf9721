"""Arrays, frames and the standard library's containers come back as they were."""

import asyncio
import collections
import datetime as dt
import decimal
import fractions
import importlib
import subprocess
import sys
import types
from typing import Any

import pytest

from millstream import _values
from millstream._interface import Interface
from millstream._values_sink import Sink, finish
from millstream_events.values import Value

# Any: these packages say of their types what differs from version to version.
np: Any = importlib.import_module("numpy")
pd: Any = importlib.import_module("pandas")
pl: Any = importlib.import_module("polars")
pa: Any = importlib.import_module("pyarrow")

ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.ones((2, 3))),
    np.zeros((0, 3), dtype="f4"),
    np.array(3.0),
    np.array(["a", "bb"]),
    np.array([True, False]),
    np.array([1 + 2j]),
    np.array(["2026-01-02"], dtype="datetime64[s]"),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
]
SCALARS = [
    np.float32(1.5), np.float64(2), np.int8(-3), np.uint64(2**63), np.bool_(True),
    np.str_("x"), np.str_(""), np.bytes_(b"y"), np.complex64(1j), np.datetime64("2026-01-02"),
    np.timedelta64(3, "s"),
]  # fmt: skip
MIXED = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [1.5, None]})
#: Frame, and whether Arrow carries it.
FRAMES = [
    (MIXED, True),
    (MIXED.set_index("b"), True),
    (MIXED.set_index(["a", "b"]), True),
    (MIXED.iloc[::-1], True),
    (MIXED.groupby("b").agg({"a": ["sum", "mean"]}), True),
    (pd.DataFrame(), True),
    (pd.DataFrame({0: [1], 1: [2]}), True),
    (pd.DataFrame({"t": pd.date_range("2026", periods=3, tz="Europe/Berlin")}), True),
    (pd.DataFrame({"c": pd.Categorical(["a", "b", "a"])}), True),
    (pd.DataFrame({"i": pd.array([1, None], dtype="Int64")}), True),
    (pd.DataFrame({"a": [1]}, index=[pd.Timestamp("2026-01-01")]), True),
    (pd.DataFrame({"a": [1, "x", (1, 2)]}), False),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), False),
    (pd.DataFrame({"d": [decimal.Decimal("1.1"), None], "l": [[1], [2]]}), False),
]
POLARS = pl.DataFrame(
    {"a": [1, 2], "b": ["x", None], "l": [[1], [2]], "s": [{"q": 1}, {"q": 2}],
     "d": [dt.date(2026, 1, 1)] * 2}
)  # fmt: skip
TABLE = pa.table({"a": [1, 2], "b": ["x", None]}).replace_schema_metadata({"k": "v"})
CONTAINERS = [
    collections.OrderedDict([("b", 1), ("a", (2, 3))]),
    collections.Counter("aab"),
    collections.deque([1, {2}], maxlen=4),
    collections.defaultdict(list, {"a": [1]}),
    range(2, 9, 3),
    slice(1, None),
    bytearray(b"\x00x"),
    fractions.Fraction(1, 3),
    types.SimpleNamespace(a=1),
]


def encoded_now(value: Any, annotation: Any) -> tuple[str, bytes]:
    """Encode `value`, and do what that leaves to do: the files of frames are written then."""
    sink = Sink()
    encoded = _values.encode(value, annotation, sink=sink)
    asyncio.run(finish(sink, Unused()))
    return encoded


class Unused:
    """A blob store that nothing is put into."""

    async def store(self, content: bytes, codec: str) -> Value:
        raise AssertionError(codec)


def travelled(value: Any, annotation: Any = Any) -> Any:
    codec, content = encoded_now(value, annotation)
    return _values.decode(codec, content, annotation)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: array.dtype.str)
def test_an_array_keeps_dtype_shape_and_order(array: Any) -> None:
    for annotation in (np.ndarray, Any):
        back = travelled(array, annotation)
        assert type(back) is np.ndarray
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.flags.f_contiguous == array.flags.f_contiguous
        assert (back == array).all()
        back.fill(0)  # It may be written to.


def test_an_array_of_objects_travels_item_by_item() -> None:
    array = np.array([{"a": 1}, None, (1, 2)], dtype=object)
    back = travelled(array)
    assert back.dtype == object
    assert list(back) == list(array)


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: type(scalar).__name__)
def test_a_scalar_of_numpy_keeps_its_class(scalar: Any) -> None:
    for annotation in (type(scalar), Any):
        back = travelled(scalar, annotation)
        assert type(back) is type(scalar)
        assert back == scalar


def test_numbers_of_numpy_become_the_python_numbers_that_are_asked_for() -> None:
    given = {"i": np.int32(2), "f": np.float32(2.5), "b": np.bool_(True)}
    asked: Any = {"i": int, "f": float, "b": bool}
    for name, value in given.items():
        back = travelled(value, asked[name])
        assert type(back) is asked[name]
        assert back == value


@pytest.mark.parametrize(("frame", "by_arrow"), FRAMES)
def test_a_frame_of_pandas_keeps_index_and_dtypes(frame: Any, by_arrow: bool) -> None:
    codec, content = encoded_now(frame, pd.DataFrame)
    assert codec == ("msgpack" if by_arrow else "pickle")
    pd.testing.assert_frame_equal(_values.decode(codec, content, pd.DataFrame), frame)


@pytest.mark.parametrize(
    "series", [MIXED["a"], MIXED["b"], pd.Series([1, 2], index=["x", "y"]), pd.Series([{"a": 1}])]
)
def test_a_series_of_pandas_keeps_name_and_index(series: Any) -> None:
    pd.testing.assert_series_equal(travelled(series, pd.Series), series)


def test_frames_of_polars_and_arrow_are_as_they_were() -> None:
    assert travelled(POLARS, pl.DataFrame).equals(POLARS)
    assert travelled(POLARS["b"], pl.Series).equals(POLARS["b"], check_names=True)
    lazy = travelled(POLARS.lazy().filter(pl.col("a") > 1), pl.LazyFrame)
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect().equals(POLARS.filter(pl.col("a") > 1))
    assert travelled(TABLE, pa.Table).equals(TABLE, check_metadata=True)
    batch = TABLE.to_batches()[0]
    assert travelled({"x": [batch]})["x"][0].equals(batch)


def test_equal_frames_have_equal_hashes() -> None:
    def task(frame: pd.DataFrame, array: np.ndarray) -> None: ...

    def hash_of(frame: Any) -> bytes:
        encoded = Interface.of(task).encode_inputs((frame, ARRAYS[0]), {})
        assert encoded is not None
        return _values.inputs_hash(encoded[1])

    assert hash_of(MIXED) == hash_of(MIXED.copy())
    assert hash_of(MIXED) != hash_of(MIXED.assign(a=3))


def test_bulk_does_not_count_as_inline() -> None:
    def task(frame: pd.DataFrame) -> None: ...

    sink = Sink()
    encoded = Interface.of(task).encode_inputs((pd.DataFrame({"a": range(10_000)}),), {}, sink)
    assert encoded is not None
    assert len(encoded[1]) - sink.aside_bytes < 200


@pytest.mark.parametrize("value", CONTAINERS, ids=lambda value: type(value).__name__)
def test_a_container_keeps_its_class(value: Any) -> None:
    for annotation in (type(value), Any, type(value) | None):
        back = travelled(value, annotation)
        assert back == value
        assert type(back) is type(value)
    assert getattr(travelled(CONTAINERS[2]), "maxlen", 0) == 4


def test_no_heavy_package_is_imported_for_plain_values() -> None:
    program = (
        "import sys; from millstream import _values\n"
        "_values.encode([1, {2}, range(3)])\n"
        "print(sorted({'numpy', 'pandas', 'polars', 'pyarrow', 'attr'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
