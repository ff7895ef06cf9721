"""`DataFrame`: a table by its place, which is read when it is asked for, as what is asked for."""

import asyncio
import io
import weakref
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, ClassVar, Final, Generic, Self, cast

import msgspec
from pydantic import BaseModel, ConfigDict, PrivateAttr, model_serializer
from typing_extensions import TypeVar

from millstream._io_frame_formats import (
    FORMATS,
    PARQUET,
    Kind,
    batches,
    converted,
    file_of,
    kind_of,
    read_frame,
    written,
)
from millstream._io_hashing import HashMethod
from millstream._io_paths import RawDataPath, default_root, join, place_here
from millstream._io_streams import closing, open_file
from millstream._io_transfer import Digest

DF = TypeVar("DF", default=Any)

_MISSING: Final = object()


class DatasetColumn(msgspec.Struct, frozen=True):
    """One column that an annotation names."""

    name: str


class StructuredDatasetType(msgspec.Struct, frozen=True):
    """What is known of a table without reading it."""

    format: str = ""
    #: Empty: all that are there.
    columns: tuple[DatasetColumn, ...] = ()


class StructuredDatasetMetadata(msgspec.Struct, frozen=True):
    """What is known of a table, under Flyte's words."""

    structured_dataset_type: StructuredDatasetType


class StructuredDataset(msgspec.Struct, frozen=True):
    """Where a table lies, under Flyte's words."""

    uri: str
    metadata: StructuredDatasetMetadata


class FrameDraft:
    """A frame on its way to a file: written once, when somebody is to read it."""

    def __init__(self, uri: str, format_: str, content: bytes) -> None:
        self.uri = uri
        self.format = format_
        digest = Digest()
        digest.update(content)
        self.digest = digest.value()
        self._content: bytes | None = content

    def read(self, kind: Kind) -> Any:
        """Return the frame as its file gives it back."""
        assert self._content is not None, self.uri
        return kind.read(io.BytesIO(self._content), self.format, None)

    def write(self) -> None:
        """Write the file, unless that was done."""
        if self._content is None:
            return
        path = file_of(self.uri, self.format)
        with closing(open_file(path, "wb", size_hint=len(self._content))) as file:
            file.write(self._content)
        self._content = None

    async def __call__(self, storage: object) -> None:
        """Write the file before the value that names it leaves."""
        del storage
        await asyncio.to_thread(self.write)


def draft_of(frame: object, format_: str, uri: str | None) -> FrameDraft:
    """Return the draft of a native frame.

    Args:
        frame: Of pandas, pyarrow or polars.
        format_: One of `FORMATS`; empty: parquet.
        uri: Where to write it; None: a new path of the run.

    Raises:
        TypeError: It is no frame.
        ValueError: The format is not known.
    """
    kind = kind_of(type(frame))
    if kind is None:
        raise TypeError(f"a {type(frame).__qualname__} is no frame of pandas, pyarrow or polars")
    format_ = format_ or PARQUET
    if format_ not in FORMATS:
        raise ValueError(f"a frame can be in one of the formats {list(FORMATS)}, not {format_!r}")
    content = written(kind, frame, format_)
    raw = place_here() or RawDataPath(path=join(default_root(), "frames"))
    return FrameDraft(uri or raw.get_random_remote_path(), format_, content)


class DataFrame(BaseModel):
    """A table in a store or on a disk, or one in memory on its way there.

    Handing one on copies nothing; `await df.open(pandas.DataFrame).all()` reads it.

    Attributes:
        uri: Path or URL of its file, or of the folder of its files; None: not written yet.
        format: `parquet` or `csv`; empty: parquet, unless the name says otherwise.
        hash: Stands for the content in cache keys; None: what is known of the content does.
    """

    uri: str | None = None
    format: str | None = ""
    hash: str | None = None

    model_config: ClassVar[ConfigDict] = ConfigDict(
        arbitrary_types_allowed=True,
        json_schema_extra={
            "description": "A tabular data reference backed by a remote file.",
            "x-flyte-type": "dataframe",
        },
    )

    _raw_df: Any = PrivateAttr(default=None)
    _columns: tuple[str, ...] = PrivateAttr(default=())
    _dataframe_type: type[Any] | None = PrivateAttr(default=None)
    _draft: FrameDraft | None = PrivateAttr(default=None)
    _lazy_uploader: Callable[[], Awaitable[Any]] | None = PrivateAttr(default=None)

    @model_serializer
    def serialize_dataframe(self) -> dict[str, str | None]:
        """Return its place; one in memory is written for that."""
        if self.uri is None and self._raw_df is not None:
            draft = self.draft("")
            draft.write()
            return {"uri": draft.uri, "format": draft.format}
        return {"uri": self.uri, "format": self.format}

    @classmethod
    def schema_match(cls, incoming: dict[str, Any]) -> bool:
        """Say whether a JSON schema is that of a table."""
        if not isinstance(cast("object", incoming), dict):
            return False
        own = cls.model_json_schema()
        fields = incoming.get("properties", {})
        same = all(incoming.get(key) == own.get(key) for key in ("title", "type"))
        return same and "uri" in fields and "format" in fields

    @property
    def lazy_uploader(self) -> Callable[[], Awaitable[Any]] | None:
        """What writes a table in memory, and returns the `DataFrame` that refers to it."""
        return self._lazy_uploader

    @lazy_uploader.setter
    def lazy_uploader(self, lazy_uploader: Callable[[], Awaitable[Any]] | None) -> None:
        self._lazy_uploader = lazy_uploader

    @classmethod
    def columns(cls) -> dict[str, type]:
        """Return the columns that the class declares: none; an annotation names them."""
        return {}

    @classmethod
    def column_names(cls) -> list[str]:
        """Return the names of `columns`."""
        return list(cls.columns())

    # -------------------------------------------------------------- making one

    @classmethod
    def wrap_df(cls, val: Any = None, uri: str | None = None) -> Self:
        """Return a table in memory; it is written when it is given to, or returned by, a task.

        Args:
            val: A frame of pandas, pyarrow or polars.
            uri: Where to write it; None: a new path of the run.
        """
        made = cls(uri=uri)
        made._raw_df = val
        return made

    @classmethod
    def from_df(cls, val: Any = None, uri: str | None = None) -> Self:
        """Do what `wrap_df` does, under its former name."""
        return cls.wrap_df(val, uri=uri)

    @classmethod
    def from_local_sync(
        cls,
        df: Any,
        columns: Mapping[str, type[Any]] | None = None,
        remote_destination: str | None = None,
        hash_method: HashMethod | str | None = None,
    ) -> Self:
        """Return a table in memory with a hash; see `wrap_df`.

        Args:
            df: A frame of pandas, pyarrow or polars.
            columns: Columns that readers get unless they say otherwise; None: all.
            remote_destination: Where to write it; None: a new path of the run.
            hash_method: Computes the hash of the frame; or the hash itself.
        """
        made = cls.wrap_df(df, uri=remote_destination).with_columns(columns or ())
        made.hash = hash_method if isinstance(hash_method, str) else hashed(df, hash_method)
        return made

    @classmethod
    async def from_local(
        cls,
        df: Any,
        columns: Mapping[str, type[Any]] | None = None,
        remote_destination: str | None = None,
        hash_method: HashMethod | str | None = None,
    ) -> Self:
        """Do what `from_local_sync` does, awaited."""
        return cls.from_local_sync(df, columns, remote_destination, hash_method)

    @classmethod
    def from_existing_remote(
        cls,
        remote_path: str,
        format: str | None = None,  # noqa: A002 - Flyte's name
        **kwargs: Any,
    ) -> Self:
        """Return the table that lies at `remote_path` already: a file, or a folder of files."""
        return cls(uri=remote_path, format=format or "", **kwargs)

    @property
    def chosen_columns(self) -> tuple[str, ...]:
        """Columns that readers get unless they say otherwise; empty: all."""
        return self._columns

    def with_columns(self, columns: Iterable[str]) -> Self:
        """Choose the columns that readers get, and return the table itself."""
        self._columns = tuple(columns)
        return self

    def draft(self, format_: str) -> FrameDraft:
        """Return the draft of the table in memory; the same one each time."""
        if self._draft is None:
            self._draft = draft_of(self._raw_df, format_ or self.format or "", self.uri)
        return self._draft

    # -------------------------------------------------------------- content

    @property
    def val(self) -> Any:
        """The frame in memory; None: there is none."""
        return self._raw_df

    @property
    def metadata(self) -> StructuredDatasetMetadata | None:
        """What is known without reading; None: not even where it lies."""
        if self.uri is None:
            return None
        columns = tuple(DatasetColumn(name) for name in self._columns)
        return StructuredDatasetMetadata(StructuredDatasetType(self.format or "", columns))

    @property
    def literal(self) -> StructuredDataset | None:
        """Where it lies; None: nowhere yet."""
        metadata = self.metadata
        return None if metadata is None else StructuredDataset(str(self.uri), metadata)

    def open(self, dataframe_type: type[DF]) -> "_Opened[DF]":
        """Choose what to read the table as: `df.open(pandas.DataFrame).all_sync()`."""
        self._dataframe_type = dataframe_type
        return cast("_Opened[DF]", self)

    def _kind(self) -> Kind:
        if self._dataframe_type is None:
            raise ValueError(
                "No dataframe type set. Use open() to set the local dataframe type you want to use."
            )
        kind = kind_of(self._dataframe_type)
        if kind is None:
            raise ValueError(
                f"Failed to find a handler for {self._dataframe_type}: open() takes a class of "
                f"frames of pandas, pyarrow or polars"
            )
        return kind

    async def all(self) -> Any:
        """Return the whole table as the class that `open` was given.

        Raises:
            ValueError: `open` was not called, or not with a class of frames.
            FileNotFoundError: There is no such file.
        """
        return await asyncio.to_thread(self.all_sync)

    def all_sync(self) -> Any:
        """Do what `all` does, for sync code."""
        kind = self._kind()
        if self._raw_df is not None:
            frame = converted(self._raw_df, kind)
            names = list(self._columns)
            return kind.from_arrow(kind.to_arrow(frame).select(names)) if names else frame
        if self.uri is None:
            raise ValueError("this DataFrame has neither a frame nor a uri")
        return read_frame(kind, self.uri, self.format or "", self._columns or None)

    def iter(self) -> "_Pieces":
        """Return the table in pieces: `async for piece in df.open(pandas.DataFrame).iter()`.

        `await ....iter()` gives the same.
        """
        kind = self._kind()
        if self._raw_df is not None:
            return _Pieces(iter([self.all_sync()]))
        if self.uri is None:
            raise ValueError("this DataFrame has neither a frame nor a uri")
        return _Pieces(batches(kind, self.uri, self.format or "", self._columns or None))


class _Opened(DataFrame, Generic[DF]):
    """A `DataFrame` of which type checkers know what it is read as; never made."""

    async def all(self) -> DF:
        return cast("DF", await super().all())

    def all_sync(self) -> DF:
        return cast("DF", super().all_sync())


class _Pieces:
    """Pieces of a table, for `async for` and for `for`; awaiting it gives itself."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        self._pieces = pieces

    def __await__(self) -> Generator[Any, None, "_Pieces"]:
        yield from ()
        return self

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._each()

    async def _each(self) -> AsyncIterator[Any]:
        while (piece := await asyncio.to_thread(next, self._pieces, _MISSING)) is not _MISSING:
            yield piece

    def __iter__(self) -> Iterator[Any]:
        return self._pieces


def place(uri: str, format_: str, hash_: str | None, columns: Sequence[str]) -> DataFrame:
    """Return the `DataFrame` that refers to what was written."""
    return DataFrame(uri=uri, format=format_, hash=hash_).with_columns(columns)


def hashed(frame: object, hash_method: HashMethod | None) -> str | None:
    """Return the hash of a frame; None without a method."""
    if hash_method is None:
        return None
    hash_method.update(frame)
    return hash_method.result()


# ------------------------------------------------------------------ hashes of native frames


class _Known(msgspec.Struct, frozen=True):
    ref: "weakref.ref[Any]"
    hash: str
    print: bytes


#: Hash that a native frame came with, by its id.
_hashes: Final[dict[int, _Known]] = {}


def remember_hash(frame: object, hash_: str | None) -> None:
    """Note the hash that a frame was read with: it goes on with it, unless it is changed."""
    if hash_ is None:
        return
    key = id(frame)
    try:
        ref = weakref.ref(frame, lambda _: _hashes.pop(key, None))
    except TypeError:  # a class without weak references
        return
    _hashes[key] = _Known(ref, hash_, _print_of(frame))


def known_hash(frame: object) -> str | None:
    """Return the hash that this very frame was read with, if it still holds the same."""
    known = _hashes.get(id(frame))
    if known is None or known.ref() is not frame or known.print != _print_of(frame):
        return None
    return known.hash


def _print_of(frame: object) -> bytes:
    kind = kind_of(type(frame))
    if kind is None:
        return b""
    digest = Digest()
    digest.update(written(kind, frame, PARQUET))
    return digest.value()
