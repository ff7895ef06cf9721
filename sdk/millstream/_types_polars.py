"""Codecs of polars frames and series, as Arrow; imported once polars is.

A lazy frame is computed where it is passed on, and comes back lazy.
"""

import importlib
import io
from typing import Any

from millstream._values_codecs import Site, register

# Any: what the library says of its types differs from version to version.
pl: Any = importlib.import_module("polars")


def _write(frame: Any, site: Site) -> dict[str, object] | None:
    """Return size and stream; None: a column holds Python objects."""
    if pl.Object in frame.dtypes:
        return None
    file = io.BytesIO()
    frame.write_ipc(file)
    site.aside(file.getbuffer().nbytes)
    return {"rows": frame.height, "columns": frame.columns, "ipc": file.getvalue()}


def _read(record: Any) -> Any:
    return pl.read_ipc(io.BytesIO(record["ipc"]))


class FrameCodec:
    """Frames."""

    name = "polars.DataFrame"
    cls = pl.DataFrame

    def encode(self, value: Any, site: Site) -> object:
        """Return size and stream."""
        return _write(value, site) or NotImplemented

    def decode(self, record: Any, site: Site) -> object:
        """Return the frame."""
        return _read(record)


class LazyCodec:
    """Lazy frames: what they compute."""

    name = "polars.LazyFrame"
    cls = pl.LazyFrame

    def encode(self, value: Any, site: Site) -> object:
        """Return size and stream of the result."""
        return _write(value.collect(), site) or NotImplemented

    def decode(self, record: Any, site: Site) -> object:
        """Return a lazy frame over the result."""
        return _read(record).lazy()


class SeriesCodec:
    """Series, as a frame of one column."""

    name = "polars.Series"
    cls = pl.Series

    def encode(self, value: Any, site: Site) -> object:
        """Return size and stream; the name is that of the column."""
        return _write(value.to_frame(), site) or NotImplemented

    def decode(self, record: Any, site: Site) -> object:
        """Return the series."""
        return _read(record).to_series()


register(FrameCodec())
register(LazyCodec())
register(SeriesCodec())
