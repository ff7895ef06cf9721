"""Codecs of pandas frames and series, as Arrow; imported once pandas is.

What Arrow does not give back exactly (a column of mixed objects, say) is pickled, as is everything
where pyarrow is not installed.
"""

import importlib
from typing import Any, Final

from millstream._values_codecs import Site, register

np: Any = importlib.import_module("numpy")
pd: Any = importlib.import_module("pandas")
try:
    arrow: Any = importlib.import_module("millstream._types_arrow")
except ImportError:  # pyarrow is optional, also for pandas
    arrow = None

_VALUES: Final = "values"


def _write(frame: Any) -> bytes | None:
    """Return `frame` as an Arrow stream, or None where it would come back as another."""
    if arrow is None:
        return None
    try:
        content = arrow.write_ipc(arrow.pa.Table.from_pandas(frame))
        return content if is_simple(frame) or is_same(_read(content), frame) else None
    # Arrow says in many ways that it has no such type.
    except (arrow.pa.ArrowException, TypeError, ValueError, KeyError):
        return None


def _read(content: bytes) -> Any:
    if arrow is None:
        raise ImportError("pyarrow is needed to read this frame")
    return arrow.read_ipc(content).to_pandas()


def is_simple(frame: Any) -> bool:
    """Say whether there are only numbers and times, under names that are texts."""
    kinds = {getattr(dtype, "kind", "O") for dtype in frame.dtypes}
    return (
        kinds <= set("biufmM")
        and all(isinstance(dtype, np.dtype) for dtype in frame.dtypes)
        and type(frame.index) is pd.RangeIndex
        and all(type(name) is str for name in frame.columns)
        and frame.columns.is_unique
        and not frame.attrs
    )


def is_same(one: Any, other: Any) -> bool:
    try:
        pd.testing.assert_frame_equal(
            one, other, check_exact=True, check_index_type=True, check_freq=True
        )
    except AssertionError:
        return False
    return bool(one.attrs == other.attrs and _classes(one) == _classes(other))


def _classes(frame: Any) -> list[object]:
    """Return the classes of all items in columns of objects."""
    objects = [frame.iloc[:, at] for at, dtype in enumerate(frame.dtypes) if dtype.kind == "O"]
    return [type(item) for column in objects for item in column]


class FrameCodec:
    """Frames, with their index and dtypes."""

    name = "pandas.DataFrame"
    cls = pd.DataFrame

    def encode(self, value: Any, site: Site) -> object:
        """Return size and stream."""
        content = _write(value)
        if content is None:
            return NotImplemented
        site.aside(len(content))
        names = [str(name) for name in value.columns]
        return {"rows": len(value), "columns": names, "ipc": content}

    def decode(self, record: Any, site: Site) -> object:
        """Return the frame."""
        return _read(record["ipc"])


class SeriesCodec:
    """Series, as a frame of one column."""

    name = "pandas.Series"
    cls = pd.Series

    def encode(self, value: Any, site: Site) -> object:
        """Return size, name and stream."""
        content = None if value.attrs else _write(value.to_frame(_VALUES))
        if content is None:
            return NotImplemented
        site.aside(len(content))
        return {"rows": len(value), "name": value.name, "ipc": content}

    def decode(self, record: Any, site: Site) -> object:
        """Return the series."""
        return _read(record["ipc"])[_VALUES].rename(record["name"])


register(FrameCodec())
register(SeriesCodec())
