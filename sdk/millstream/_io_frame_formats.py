"""Frames of pandas, pyarrow and polars in files: who writes and reads which format.

The libraries are the user's: each is loaded when a frame of it is met, and not before.
"""

import importlib
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from millstream._io_paths import is_remote, join, local_path, name_of
from millstream._io_streams import closing, open_file
from millstream._io_transfer import walk

PARQUET: Final = "parquet"
CSV: Final = "csv"
FORMATS: Final = (PARQUET, CSV)

#: Rows that `iter` reads at once.
BATCH_ROWS: Final = 64 * 1024
#: Name of the one file that a frame is written to, by format.
_FILE_NAMES: Final = {PARQUET: "00000", CSV: "data.csv"}


class Kind(NamedTuple):
    """One class of frames."""

    name: str
    module: str
    attribute: str
    write: Callable[[Any, IO[bytes], str], None]
    read: Callable[[IO[bytes], str, Sequence[str] | None], Any]
    #: From and to `pyarrow.Table`.
    to_arrow: Callable[[Any], Any]
    from_arrow: Callable[[Any], Any]
    #: Says whether the second is what the first was.
    holds: Callable[[Any, Any], bool]


def kind_of(cls: type) -> Kind | None:
    """Return the kind of a class of frames; subclasses count as their base."""
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        for kind in KINDS:
            if kind.module == package and kind.attribute == base.__name__:
                return kind
    return None


def kind_named(name: str) -> Kind:
    """Return the kind of that name."""
    return next(kind for kind in KINDS if kind.name == name)


# ------------------------------------------------------------------ whole frames


def written(kind: Kind, frame: object, format_: str) -> bytes:
    """Return the content of the file that holds a frame."""
    buffer = io.BytesIO()
    kind.write(frame, buffer, format_)
    return buffer.getvalue()


def file_of(uri: str, format_: str) -> str:
    """Return the path of the file that a frame at `uri` is written to."""
    return join(uri, _FILE_NAMES[format_])


def parts_of(uri: str, format_: str) -> list[str]:
    """Return the files of a frame: `uri` itself, or those of that folder, in order.

    Raises:
        FileNotFoundError: There is none.
    """
    if is_remote(uri):
        parts = sorted(walk(uri)) or [uri]
    else:
        path = local_path(uri)
        parts = sorted(walk(uri)) if path.is_dir() else [str(path)]
        if not parts or not path.exists():
            raise FileNotFoundError(f"no file of a frame lies at {uri}")
    named = [p for p in parts if not name_of(p).startswith(("_", "."))]
    ending = [p for p in named if Path(p).suffix == f".{format_}"]
    return ending or named


def format_of(uri: str, format_: str) -> str:
    """Return the format of a frame: as it says, or else as its name says.

    Raises:
        ValueError: It is in no format that is known.
    """
    found = format_ or (CSV if uri.endswith(".csv") else PARQUET)
    if found not in FORMATS:
        raise ValueError(f"a frame can be in one of the formats {list(FORMATS)}, not {found!r}")
    return found


def read_frame(kind: Kind, uri: str, format_: str, columns: Sequence[str] | None) -> Any:
    """Return the frame at `uri`.

    Args:
        kind: Of what class.
        uri: Of a file, or of a folder with its parts.
        format_: One of `FORMATS`; empty: as the name says.
        columns: Only these; None: all.

    Raises:
        FileNotFoundError: There is none.
    """
    format_ = format_of(uri, format_)
    frames: list[Any] = []
    for part in parts_of(uri, format_):
        with closing(open_file(part, "rb")) as file:
            frames.append(kind.read(file, format_, columns))
    if len(frames) == 1:
        return frames[0]
    arrow = importlib.import_module("pyarrow")
    return kind.from_arrow(arrow.concat_tables([kind.to_arrow(frame) for frame in frames]))


def batches(kind: Kind, uri: str, format_: str, columns: Sequence[str] | None) -> Iterator[Any]:
    """Yield the frame at `uri` in pieces of `BATCH_ROWS` rows, so that memory is bounded."""
    format_ = format_of(uri, format_)
    for part in parts_of(uri, format_):
        with closing(open_file(part, "rb")) as file:
            if format_ == CSV:
                yield kind.read(file, CSV, columns)
                continue
            parquet = importlib.import_module("pyarrow.parquet")
            arrow = importlib.import_module("pyarrow")
            names = list(columns) if columns else None
            for batch in parquet.ParquetFile(file).iter_batches(BATCH_ROWS, columns=names):
                yield kind.from_arrow(arrow.Table.from_batches([batch]))


def converted(frame: object, kind: Kind) -> Any:
    """Return a frame as one of another class.

    Raises:
        TypeError: It is no frame.
    """
    own = kind_of(type(frame))
    if own is kind:
        return frame
    if own is None:
        raise TypeError(f"a {type(frame).__name__} is no frame of {[k.module for k in KINDS]}")
    return kind.from_arrow(own.to_arrow(frame))


# ------------------------------------------------------------------ pandas


def _write_pandas(frame: Any, file: IO[bytes], format_: str) -> None:
    if format_ == CSV:
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file)


def _read_pandas(file: IO[bytes], format_: str, columns: Sequence[str] | None) -> Any:
    pandas = importlib.import_module("pandas")
    names = list(columns) if columns else None
    if format_ == CSV:
        frame = pandas.read_csv(file, usecols=names)
        return frame[names] if names else frame
    return pandas.read_parquet(file, columns=names)


def _pandas_to_arrow(frame: Any) -> Any:
    return importlib.import_module("pyarrow").Table.from_pandas(frame)


# ------------------------------------------------------------------ pyarrow


def _write_arrow(table: Any, file: IO[bytes], format_: str) -> None:
    if format_ == CSV:
        importlib.import_module("pyarrow.csv").write_csv(table, file)
    else:
        importlib.import_module("pyarrow.parquet").write_table(table, file)


def _read_arrow(file: IO[bytes], format_: str, columns: Sequence[str] | None) -> Any:
    names = list(columns) if columns else None
    if format_ == CSV:
        table = importlib.import_module("pyarrow.csv").read_csv(file)
        return table.select(names) if names else table
    return importlib.import_module("pyarrow.parquet").ParquetFile(file).read(columns=names)


def _same(frame: Any) -> Any:
    return frame


# ------------------------------------------------------------------ polars


def _write_polars(frame: Any, file: IO[bytes], format_: str) -> None:
    if format_ == CSV:
        frame.write_csv(file)
    else:
        frame.write_parquet(file)


def _read_polars(file: IO[bytes], format_: str, columns: Sequence[str] | None) -> Any:
    polars = importlib.import_module("polars")
    names = list(columns) if columns else None
    if format_ == CSV:
        return polars.read_csv(file, columns=names)
    return polars.read_parquet(file, columns=names, use_pyarrow=False)


def _write_lazy(frame: Any, file: IO[bytes], format_: str) -> None:
    _write_polars(frame.collect(), file, format_)


def _read_lazy(file: IO[bytes], format_: str, columns: Sequence[str] | None) -> Any:
    return _read_polars(file, format_, columns).lazy()


def _pandas_holds(frame: Any, read: Any) -> bool:
    types = importlib.import_module("millstream._types_pandas")
    return bool(types.is_simple(frame) or types.is_same(read, frame))


def _equal(frame: Any, read: Any) -> bool:
    return bool(frame.equals(read))


def _lazy_equal(frame: Any, read: Any) -> bool:
    del frame, read  # It would be computed once more; polars keeps all types in a file.
    return True


def _arrow_to_pandas(table: Any) -> Any:
    return table.to_pandas()


def _polars_to_arrow(frame: Any) -> Any:
    return frame.to_arrow()


def _lazy_to_arrow(frame: Any) -> Any:
    return frame.collect().to_arrow()


def _arrow_to_polars(table: Any) -> Any:
    return importlib.import_module("polars").from_arrow(table)


def _arrow_to_lazy(table: Any) -> Any:
    return _arrow_to_polars(table).lazy()


KINDS: Final[tuple[Kind, ...]] = (
    Kind(
        name="pandas",
        module="pandas",
        attribute="DataFrame",
        write=_write_pandas,
        read=_read_pandas,
        to_arrow=_pandas_to_arrow,
        from_arrow=_arrow_to_pandas,
        holds=_pandas_holds,
    ),
    Kind(
        name="arrow",
        module="pyarrow",
        attribute="Table",
        write=_write_arrow,
        read=_read_arrow,
        to_arrow=_same,
        from_arrow=_same,
        holds=_equal,
    ),
    Kind(
        name="polars",
        module="polars",
        attribute="DataFrame",
        write=_write_polars,
        read=_read_polars,
        to_arrow=_polars_to_arrow,
        from_arrow=_arrow_to_polars,
        holds=_equal,
    ),
    Kind(
        name="polars_lazy",
        module="polars",
        attribute="LazyFrame",
        write=_write_lazy,
        read=_read_lazy,
        to_arrow=_lazy_to_arrow,
        from_arrow=_arrow_to_lazy,
        holds=_lazy_equal,
    ),
)
