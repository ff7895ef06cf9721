"""`File`: a file by its place, which travels without its content."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import IO, Any, ClassVar, Final, Generic, Self, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypeVar

from millstream._context import current
from millstream._io_hashing import HashMethod
from millstream._io_paths import (
    RawDataPath,
    from_root,
    is_remote,
    join,
    name_of,
    place_here,
    place_of_run,
    scratch_path,
    sees_callers_files,
)
from millstream._io_streams import AsyncFile, Opened, Watcher, closing, open_file
from millstream._io_transfer import Digest, digest_file, file_exists, get_file, put_file

T = TypeVar("T", default=Any)

#: Uploads what an object only refers to; returns hash and path.
Uploader: TypeAlias = Callable[[], Awaitable[tuple[str | None, str]]]

#: Key in `__dict__` of the digest of content that was written here. It is no field: it neither
#: shows nor counts for equality.
_DIGEST: Final = "_content_digest"


class LocalSource:
    """A local file or folder that is uploaded when it is given to a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def __call__(self) -> tuple[str | None, str]:
        """Upload it to where the current code may put data; return its hash and path there."""
        raw = upload_place()
        if raw is None:
            return None, str(self.path)
        digest = await asyncio.to_thread(digest_file, self.path)
        target = place_of_content(raw, digest, self.path.name)
        await asyncio.to_thread(put_file, self.path, target)
        return digest.hex(), target


def upload_place() -> RawDataPath | None:
    """Return where local content has to go to be seen by tasks; None: it is seen as it lies."""
    return None if sees_callers_files() else place_here()


def place_of_content(raw: RawDataPath, digest: bytes, name: str) -> str:
    """Return the path of content that is kept once, however often it is uploaded."""
    return join(raw.path, "uploads", digest.hex(), name)


def required_place() -> RawDataPath:
    """Return where the current task may put data.

    Raises:
        ValueError: No task is running.
    """
    raw = place_here()
    if raw is None:
        raise ValueError(
            "Raw data path has not been set in the context: call this in a task, or use "
            "from_local() outside of one"
        )
    return raw


def named(fields: Any) -> Any:
    """Return the fields of a file or folder with the name that follows from its path."""
    if not isinstance(fields, dict):
        return fields
    given = cast("dict[str, Any]", fields)
    if given.get("name") is not None or "path" not in given:
        return given
    return {**given, "name": name_of(str(given["path"]))}


def digest_of_content(ref: BaseModel) -> bytes | None:
    """Return the digest of what a file, directory or frame holds, where it is known."""
    digest = vars(ref).get(_DIGEST)
    return digest if isinstance(digest, bytes) else None


def set_digest(ref: BaseModel, digest: bytes | None) -> None:
    """Note the digest of what a file, directory or frame holds."""
    if digest:
        vars(ref)[_DIGEST] = digest


class File(BaseModel, Generic[T]):
    """A file in a store or on a disk: handing it on copies nothing.

    Make one with `from_local`, `new_remote`, `named_remote` or `from_existing_remote`; methods
    that end in `_sync` are for sync code, the others are awaited.

    Attributes:
        path: Local path or URL.
        name: Last part of the path, unless another was given.
        format: Free text.
        hash: Stands for the content in cache keys; None: what is known of the content does.
        hash_method: Computes `hash` while the file is written.
    """

    path: str
    name: str | None = None
    format: str = ""
    hash: str | None = None
    hash_method: SkipJsonSchema[HashMethod | None] = Field(default=None, exclude=True)

    _lazy_uploader: Uploader | None = PrivateAttr(default=None)

    model_config: ClassVar[ConfigDict] = ConfigDict(
        arbitrary_types_allowed=True,
        json_schema_extra={
            "description": "A file reference with an optional format type.",
            "x-flyte-type": "file",
        },
    )

    @model_validator(mode="before")
    @classmethod
    def pre_init(cls, data: Any) -> Any:
        """Take the name from the path."""
        return named(data)

    @property
    def lazy_uploader(self) -> Uploader | None:
        """What uploads a local file that is given to a run; None: there is nothing to upload."""
        return self._lazy_uploader

    @lazy_uploader.setter
    def lazy_uploader(self, lazy_uploader: Uploader | None) -> None:
        self._lazy_uploader = lazy_uploader

    @classmethod
    def schema_match(cls, incoming: dict[str, Any]) -> bool:
        """Say whether a JSON schema is that of a file."""
        return same_schema(cls, incoming)

    # -------------------------------------------------------------- making one

    @classmethod
    def new_remote(
        cls, file_name: str | None = None, hash_method: HashMethod | str | None = None
    ) -> Self:
        """Return a file at a new path of the run, to be written with `open`.

        Args:
            file_name: Last part of its path; None: a random one.
            hash_method: Computes the hash while the file is written; or the hash itself.

        Raises:
            ValueError: Outside of a task.
        """
        path = required_place().get_random_remote_path(file_name)
        return cls(path=path, hash=_known(hash_method), hash_method=_method(hash_method))

    @classmethod
    def named_remote(cls, name: str) -> Self:
        """Return the file of that name of this action: the same path in every attempt of it.

        Raises:
            ValueError: Outside of a task, or a name with path separators.
        """
        context = current.get()
        if context is None:
            raise ValueError("File.named_remote() requires an active task execution context.")
        if not name or name != name_of(name):
            raise ValueError(f"a name without path separators is needed, not {name!r}")
        path = join(place_of_run(context).path, "named", context.action_id.hex(), name)
        if not is_remote(path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            path = str(Path(path).absolute())
        return cls(path=path)

    @classmethod
    def from_existing_remote(cls, remote_path: str, file_cache_key: str | None = None) -> Self:
        """Return the file that lies at `remote_path` already.

        Args:
            remote_path: Path or URL.
            file_cache_key: Stands for its content in cache keys.
        """
        return cls(path=remote_path, hash=file_cache_key)

    @classmethod
    def from_local_sync(
        cls,
        local_path: str | Path,
        remote_destination: str | None = None,
        hash_method: HashMethod | str | None = None,
        chunk_size: int | None = None,
        max_concurrency: int | None = None,
    ) -> Self:
        """Return a local file, copied to where the tasks of a run see it.

        In a task that happens at once; outside of one when the file is given to a run, unless
        there is a `remote_destination`.

        Args:
            local_path: What to copy.
            remote_destination: Path or URL; None: a new path of the run.
            hash_method: Computes the hash while the file is copied; or the hash itself.
            chunk_size: Fewest bytes in a part of an upload.
            max_concurrency: Kept for Flyte programs: the parts of an upload share one bound.

        Raises:
            ValueError: There is no such file.
        """
        del max_concurrency
        source = Path(local_path)
        if not source.exists():
            raise ValueError(f"File not found: {local_path}")
        method, hash_ = _method(hash_method), _known(hash_method)
        raw = place_here()
        if remote_destination is None:
            if raw is None:
                return cls._lazy(source, str(local_path), hash_method)
            remote_destination = raw.get_random_remote_path(source.name)
        digest = put_file(source, remote_destination, method, chunk_size=chunk_size)
        if method is not None:
            hash_ = method.result()
        path = from_root(remote_destination)
        file = cls(path=path, name=source.name, hash=hash_, hash_method=method)
        set_digest(file, digest)
        return file

    @classmethod
    def _lazy(cls, source: Path, shown: str, hash_method: HashMethod | str | None) -> Self:
        hash_, method = _known(hash_method), _method(hash_method)
        if method is not None:
            digest_file(source, (method,))
            hash_ = method.result()
        file = cls(path=shown, hash=hash_)
        file.lazy_uploader = LocalSource(source.absolute())
        return file

    @classmethod
    async def from_local(
        cls,
        local_path: str | Path,
        remote_destination: str | None = None,
        hash_method: HashMethod | str | None = None,
        chunk_size: int | None = None,
        max_concurrency: int | None = None,
    ) -> Self:
        """Do what `from_local_sync` does, awaited."""
        return await asyncio.to_thread(
            cls.from_local_sync,
            local_path,
            remote_destination,
            hash_method,
            chunk_size,
            max_concurrency,
        )

    # -------------------------------------------------------------- content

    def open(
        self,
        mode: str = "rb",
        block_size: int | None = None,
        cache_type: str = "readahead",
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> AbstractAsyncContextManager[AsyncFile]:
        """Open the file: `async with file.open("rb") as fh: content = await fh.read()`.

        What is written appears when the block ends well, and not at all when it fails.

        Args:
            mode: As of the built-in `open`.
            block_size: Bytes to read ahead, or to gather before a write.
            cache_type: Kept for Flyte programs: reads are always ahead.
            cache_options: The same.
            compression: `gzip`, `bz2`, `xz` or `infer`.
            kwargs: `encoding`, `errors` and `newline` of text.
        """
        del cache_type, cache_options
        return self._opened(mode, block_size, compression, kwargs)

    @contextlib.asynccontextmanager
    async def _opened(
        self, mode: str, block_size: int | None, compression: str | None, text: dict[str, Any]
    ) -> AsyncGenerator[AsyncFile, None]:
        watchers = self._watchers(mode)
        held = await asyncio.to_thread(
            lambda: open_file(
                self.path,
                mode,
                block_size=block_size,
                compression=compression,
                watchers=watchers,
                **text,
            )
        )
        async with AsyncFile(held) as file:
            yield file
        self._written(watchers, held)

    @contextlib.contextmanager
    def open_sync(
        self,
        mode: str = "rb",
        block_size: int | None = None,
        cache_type: str = "readahead",
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Generator[IO[Any], None, None]:
        """Open the file for sync code; see `open`."""
        del cache_type, cache_options
        watchers = self._watchers(mode)
        held = open_file(
            self.path,
            mode,
            block_size=block_size,
            compression=compression,
            watchers=watchers,
            **kwargs,
        )
        with closing(held) as file:
            yield file
        self._written(watchers, held)

    def _watchers(self, mode: str) -> tuple[Watcher, ...]:
        if "r" in mode and "+" not in mode:
            return ()
        vars(self).pop(_DIGEST, None)  # What was known of the content holds no more.
        if "w" not in mode:
            return ()
        return (Digest(), self.hash_method) if self.hash_method is not None else (Digest(),)

    def _written(self, watchers: tuple[Watcher, ...], held: Opened) -> None:
        if not watchers:
            return
        if held.in_order:
            digest = watchers[0]
            set_digest(self, digest.value() if isinstance(digest, Digest) else None)
        if self.hash_method is not None:
            if not held.in_order:
                raise ValueError("a file with a hash_method must be written from start to end")
            self.hash = self.hash_method.result()

    async def exists(self) -> bool:
        """Say whether the file is there."""
        return await asyncio.to_thread(self.exists_sync)

    def exists_sync(self) -> bool:
        """Say whether the file is there."""
        return file_exists(self.path)

    async def download(self, local_path: str | Path | None = None) -> str:
        """Do what `download_sync` does, awaited."""
        return await asyncio.to_thread(self.download_sync, local_path)

    def download_sync(self, local_path: str | Path | None = None) -> str:
        """Return the path of a local copy.

        Args:
            local_path: A file, or a folder to put it in; None: a temporary one, or the file
                itself where it is local.

        Raises:
            FileNotFoundError: The file is not there.
        """
        if not is_remote(self.path) and (
            local_path is None or str(Path(local_path).absolute()) == from_root(self.path)
        ):
            return self.path
        if local_path is None:
            target = scratch_path(name_of(self.path))
        else:
            target = Path(local_path).absolute()
            if str(local_path).endswith(os.sep) or target.is_dir():
                target /= name_of(self.path)
        get_file(self.path, target)
        return str(target)


def _known(hash_method: HashMethod | str | None) -> str | None:
    return hash_method if isinstance(hash_method, str) else None


def _method(hash_method: HashMethod | str | None) -> HashMethod | None:
    return None if isinstance(hash_method, str) else hash_method


def same_schema(cls: type[BaseModel], incoming: object) -> bool:
    """Say whether a JSON schema has the title and the required fields of a class."""
    if not isinstance(incoming, dict):
        return False
    given = cast("dict[str, Any]", incoming)
    own = cls.model_json_schema()
    required: list[str] = given.get("required") or []
    return (
        bool(own.get("required") and required)
        and given.get("type") == own.get("type")
        and given.get("title") == own.get("title")
        and set(required) == set(own["required"])
    )
