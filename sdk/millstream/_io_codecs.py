"""How files, folders and tables travel: as their place, with what stands for their content.

A record never holds content. What must still be moved is left to do until just before the
value leaves (`Site.later`). The digest of a value is its own `hash` where it has one, or else
the digest of its content where that is known; only then its place counts.
"""

import asyncio
import concurrent.futures
from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import BaseModel

from millstream._context import current
from millstream._io_dir import Dir, LocalTree
from millstream._io_file import (
    File,
    LocalSource,
    Uploader,
    digest_of_content,
    place_of_content,
    set_digest,
    upload_place,
)
from millstream._io_frame import (
    DataFrame,
    FrameDraft,
    draft_of,
    hashed,
    known_hash,
    place,
    remember_hash,
)
from millstream._io_frame_formats import FORMATS, Kind, converted, format_of, read_frame
from millstream._io_hashing import HashMethod
from millstream._io_paths import from_root, is_remote, local_path, sees_callers_files
from millstream._io_transfer import digest_file, digest_tree, put_file, put_tree
from millstream._values_codecs import Codec, Coded, Site, named, register
from millstream._values_sink import Storage

_FRAME_CODECS: Final = (
    "millstream.io.DataFrame",
    "pandas.DataFrame",
    "pyarrow.Table",
    "polars.DataFrame",
    "polars.LazyFrame",
)


def _stands_for(hash_: str | None, digest: bytes | None) -> bytes:
    return b"h" + hash_.encode() if hash_ else b"c" + digest if digest else b""


def _record(ref: BaseModel, path: str, hash_: str | None, digest: bytes | None) -> Coded:
    fields = cast("Any", ref)
    record = {
        "path": path,
        "name": fields.name,
        "format": fields.format,
        "hash": hash_,
        "digest": digest,
    }
    return Coded(record, _stands_for(hash_, digest))


class _Upload:
    """The upload of a local file or folder, to be done before the value leaves."""

    def __init__(self, source: LocalSource, target: str) -> None:
        self._source = source
        self._target = target

    async def __call__(self, storage: Storage) -> None:
        del storage
        await asyncio.to_thread(self._put)

    def _put(self) -> None:
        path, target = self._source.path, self._target
        # What is there under the digest of the content is the content.
        if not is_remote(target) and local_path(target).exists():
            return
        if isinstance(self._source, LocalTree):
            put_tree(path, target)
        else:
            put_file(path, target)


def _from_local(ref: "File[Any] | Dir[Any]", uploader: Uploader, site: Site) -> Coded:
    if not isinstance(uploader, LocalSource):
        return _from_uploader(ref, uploader)
    is_tree = isinstance(uploader, LocalTree)
    digest = (digest_tree if is_tree else digest_file)(uploader.path)
    raw = upload_place()
    target = str(uploader.path)
    if raw is not None:
        target = place_of_content(raw, digest, uploader.path.name)
        site.later(_Upload(uploader, target))
    # As in Flyte, a file that was uploaded for its caller has a hash.
    return _record(ref, target, ref.hash or (None if is_tree else digest.hex()), digest)


def _from_uploader(ref: "File[Any] | Dir[Any]", uploader: Uploader) -> Coded:
    """Await the user's own uploader, in a thread that has no event loop yet."""

    async def upload() -> tuple[str | None, str]:
        return await uploader()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        hash_, path = pool.submit(asyncio.run, upload()).result()
    return _record(ref, path, ref.hash or hash_, None)


class _RefCodec:
    """Files and folders."""

    subclasses = True
    keeps_class = True

    def __init__(self, name: str, cls: "type[File[Any] | Dir[Any]]") -> None:
        self.name = name
        self.cls: type = cls
        #: `File[str]` is a class apart for pydantic, and any file fits it.
        self.accepts: tuple[type, ...] = (cls, dict)
        self._model = cls

    def encode(self, value: Any, site: Site) -> Coded:
        """Return its place, and leave its upload to do."""
        if isinstance(value, Mapping):
            value = self._model.model_validate(value)
        if value.lazy_uploader is not None:
            return _from_local(value, value.lazy_uploader, site)
        return _record(value, value.path, value.hash, digest_of_content(value))

    def of_text(self, text: str) -> Any:
        """Return what a command line means by a path or URL.

        Raises:
            ValueError: There is no such local file or folder.
        """
        ref = cast("Any", self._model)
        return ref.from_existing_remote(text) if is_remote(text) else ref.from_local_sync(text)

    def decode(self, record: Any, site: Site) -> Any:
        """Return what refers to that place."""
        digest = record.pop("digest")
        cls = site.cls if issubclass(site.cls, self.cls) else self.cls
        made = cast("type[BaseModel]", cls)(**record)
        set_digest(made, digest)
        return made


class _Declared:
    """What the annotation of a table says, beside its class."""

    def __init__(self, metadata: tuple[Any, ...]) -> None:
        self.format = ""
        self.columns: tuple[str, ...] = ()
        self.hash_method: HashMethod | None = None
        for item in metadata:
            if isinstance(item, str):
                self._set("format", item)
            elif isinstance(item, Mapping):
                self.columns = tuple(_flat(cast("Mapping[str, Any]", item)))
            elif type(item).__module__.startswith("pyarrow"):
                self.columns = tuple(item.names)
            elif isinstance(item, HashMethod):
                self._set("hash_method", item)
            elif hasattr(item, "__annotations__"):
                self.columns = tuple(_flat(item.__annotations__))

    def _set(self, what: str, value: object) -> None:
        if getattr(self, what):
            raise ValueError(f"the annotation names two of {what}: {value!r} is the second")
        setattr(self, what, value)


def _flat(columns: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, kind in columns.items():
        if isinstance(kind, Mapping):
            names += _flat(cast("Mapping[str, Any]", kind), f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def _frame_record(
    uri: str, format_: str, hash_: str | None, digest: bytes | None, columns: tuple[str, ...]
) -> Coded:
    record = {"uri": uri, "format": format_, "hash": hash_, "digest": digest}
    return Coded({**record, "columns": list(columns)}, _stands_for(hash_, digest))


def _encode_ref(value: DataFrame, declared: _Declared, site: Site) -> Coded:
    columns = declared.columns or value.chosen_columns
    if value.val is None:
        if not value.uri:
            raise ValueError("a DataFrame needs a frame or a uri")
        format_ = value.format or declared.format
        if not is_remote(value.uri) and not sees_callers_files() and current.get() is None:
            return _upload_frame(value, format_, columns, site)
        return _frame_record(value.uri, format_, value.hash, digest_of_content(value), columns)
    draft = value.draft(declared.format)
    hash_ = value.hash or hashed(value.val, declared.hash_method)
    return _encode_draft(draft, hash_, columns, site)


def _upload_frame(value: DataFrame, format_: str, columns: tuple[str, ...], site: Site) -> Coded:
    """Return the record of a table in a local file or folder that tasks may not see."""
    path = local_path(str(value.uri)).absolute()
    if not path.exists():
        raise ValueError(f"no table lies at {path}")
    source = LocalTree(path) if path.is_dir() else LocalSource(path)
    digest = digest_tree(path) if path.is_dir() else digest_file(path)
    raw = upload_place()
    assert raw is not None, path
    target = place_of_content(raw, digest, path.name)
    site.later(_Upload(source, target))
    return _frame_record(target, format_of(path.name, format_), value.hash, digest, columns)


def _table_of_text(text: str) -> DataFrame:
    if not is_remote(text) and not local_path(text).exists():
        raise ValueError(f"no table lies at {text}")
    return DataFrame.from_existing_remote(from_root(text))


def _encode_draft(
    draft: FrameDraft, hash_: str | None, columns: tuple[str, ...], site: Site
) -> Coded:
    site.later(draft)
    return _frame_record(draft.uri, draft.format, hash_, draft.digest, columns)


def _encode_frame(value: object, site: Site) -> Coded:
    """Return the record of a table, whichever of its classes it has, for whichever annotation."""
    declared = _Declared(site.metadata)
    if isinstance(value, Mapping):
        value = DataFrame.model_validate(value)
    if isinstance(value, DataFrame):
        return _encode_ref(value, declared, site)
    return _encode_native(value, draft_of(value, declared.format, None), site)


def _encode_native(value: object, draft: FrameDraft, site: Site) -> Coded:
    declared = _Declared(site.metadata)
    hash_ = known_hash(value) or hashed(value, declared.hash_method)
    return _encode_draft(draft, hash_, declared.columns, site)


#: Codecs of frames that no file holds, by name.
_inline_codecs: Final[dict[str, Codec]] = {}


def _inline_frame(record: Any) -> object:
    name = record["inline"]
    if name not in _inline_codecs:
        named(name)  # loads it
    frame: object = _inline_codecs[name].decode(record["record"], Site(cls=object))
    return frame


class _TableCodec:
    """Tables that are read when they are asked for."""

    name = "millstream.io.DataFrame"
    cls: type = DataFrame
    subclasses = True
    keeps_class = True
    #: A native frame is taken too; `encode` says what is none.
    accepts: tuple[type, ...] = (object,)
    reads = _FRAME_CODECS

    def encode(self, value: Any, site: Site) -> Coded:
        """Return its place, and leave it to be written."""
        return _encode_frame(value, site)

    def of_text(self, text: str) -> DataFrame:
        """Return the table that a command line means by a path or URL."""
        return _table_of_text(text)

    def decode(self, record: Any, site: Site) -> DataFrame:
        """Return what refers to that place."""
        if "inline" in record:
            return DataFrame.wrap_df(_inline_frame(record))
        columns = _Declared(site.metadata).columns or tuple(record["columns"])
        made = place(record["uri"], record["format"], record["hash"], columns)
        set_digest(made, record["digest"])
        return made


class NativeFrameCodec:
    """Tables of one library, which are read when they arrive."""

    accepts: tuple[type, ...] = (DataFrame,)
    reads = _FRAME_CODECS

    def __init__(self, inline: Codec, kind: Kind) -> None:
        """Make it.

        Args:
            inline: Takes, under the same name, the frames that no parquet file gives back as
                they were, and has read those of earlier logs.
            kind: How its class is written and read.
        """
        self.name = inline.name
        self.cls = inline.cls
        self._inline = inline
        self._kind = kind
        _inline_codecs[self.name] = inline

    def encode(self, value: Any, site: Site) -> Any:
        """Return its place, and leave it to be written; or the table itself, if that must be."""
        if isinstance(value, DataFrame | Mapping):
            return _encode_frame(cast("DataFrame | Mapping[str, Any]", value), site)
        format_ = _Declared(site.metadata).format
        try:
            draft = draft_of(value, format_, None)
        # Each library says in many ways that a file cannot hold what a frame holds.
        except Exception as error:
            if isinstance(error, ValueError) and format_ not in ("", *FORMATS):
                raise
            return self._inside(value, site)
        if not format_ and not self._kind.holds(value, draft.read(self._kind)):
            return self._inside(value, site)
        return _encode_native(value, draft, site)

    def _inside(self, value: object, site: Site) -> object:
        record = self._inline.encode(value, site)
        if record is NotImplemented:
            return record
        return {"inline": self.name, "record": record}

    def of_text(self, text: str) -> DataFrame:
        """Return the table that a command line means by a path or URL."""
        return _table_of_text(text)

    def decode(self, record: Any, site: Site) -> Any:
        """Read the table."""
        if "inline" in record:
            return converted(_inline_frame(record), self._kind)
        columns = _Declared(site.metadata).columns or tuple(record["columns"])
        frame = read_frame(self._kind, record["uri"], record["format"], columns or None)
        remember_hash(frame, record["hash"])
        return frame


register(_RefCodec("millstream.io.File", File))
register(_RefCodec("millstream.io.Dir", Dir))
register(_TableCodec())
