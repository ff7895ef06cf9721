"""`Dir`: a folder by its place, which travels without its content."""

import asyncio
import fnmatch
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator
from typing_extensions import TypeVar

from millstream._io_file import (
    File,
    LocalSource,
    Uploader,
    named,
    place_of_content,
    required_place,
    same_schema,
    set_digest,
    upload_place,
)
from millstream._io_paths import from_root, is_remote, join, name_of, place_here, scratch_path
from millstream._io_transfer import digest_tree, get_tree, put_tree, tree_exists, walk

T = TypeVar("T", default=Any)

#: Path of a `Dir` that stands for none: neither a disk nor a store can have it.
_EMPTY_PATH: Final = "::flyte-empty-dir::"
#: Entries that a walk on an event loop asks a thread for at once.
_PAGE: Final = 256


class LocalTree(LocalSource):
    """A local folder that is uploaded when it is given to a run."""

    async def __call__(self) -> tuple[str | None, str]:
        """Upload it to where the current code may put data; return its path there."""
        raw = upload_place()
        if raw is None:
            return None, str(self.path)
        digest = await asyncio.to_thread(digest_tree, self.path)
        target = place_of_content(raw, digest, self.path.name)
        await asyncio.to_thread(put_tree, self.path, target)
        return None, target


class Dir(BaseModel, Generic[T]):
    """A folder in a store or on a disk: handing it on copies nothing.

    Attributes:
        path: Local path or URL.
        name: Last part of the path, unless another was given.
        format: Free text.
        hash: Stands for the content in cache keys; None: what is known of the content does.
    """

    path: str
    name: str | None = None
    format: str = ""
    hash: str | None = None

    _lazy_uploader: Uploader | None = PrivateAttr(default=None)

    model_config: ClassVar[ConfigDict] = ConfigDict(
        arbitrary_types_allowed=True,
        json_schema_extra={
            "description": "A directory reference with an optional format type.",
            "x-flyte-type": "dir",
        },
    )

    @model_validator(mode="before")
    @classmethod
    def pre_init(cls, data: Any) -> Any:
        """Take the name from the path."""
        return named(data)

    @property
    def is_empty(self) -> bool:
        """Whether it stands for no folder at all (`Dir.empty()`)."""
        return self.path == _EMPTY_PATH

    @classmethod
    def empty(cls) -> "Dir[Any]":
        """Return what a task returns that has made no folder."""
        return EmptyDir()

    @property
    def lazy_uploader(self) -> Uploader | None:
        """What uploads a local folder that is given to a run; None: there is nothing to upload."""
        return self._lazy_uploader

    @lazy_uploader.setter
    def lazy_uploader(self, lazy_uploader: Uploader | None) -> None:
        self._lazy_uploader = lazy_uploader

    @classmethod
    def schema_match(cls, incoming: dict[str, Any]) -> bool:
        """Say whether a JSON schema is that of a folder."""
        return same_schema(cls, incoming)

    # -------------------------------------------------------------- making one

    @classmethod
    def new_remote(cls, dir_name: str | None = None, hash: str | None = None) -> Self:  # noqa: A002 - Flyte's name
        """Return a folder at a new path of the run.

        Args:
            dir_name: Last part of its path; None: a random one.
            hash: Stands for the content in cache keys.

        Raises:
            ValueError: Outside of a task.
        """
        path = required_place().get_random_remote_path(dir_name)
        return cls(path=path, name=dir_name or name_of(path), hash=hash)

    @classmethod
    def from_existing_remote(cls, remote_path: str, dir_cache_key: str | None = None) -> Self:
        """Return the folder that lies at `remote_path` already.

        Args:
            remote_path: Path or URL.
            dir_cache_key: Stands for its content in cache keys.
        """
        return cls(path=remote_path, hash=dir_cache_key)

    @classmethod
    def from_local_sync(
        cls,
        local_path: str | Path,
        remote_destination: str | None = None,
        dir_cache_key: str | None = None,
        batch_size: int | None = None,
        chunk_size: int | None = None,
        max_concurrency: int | None = None,
    ) -> Self:
        """Return a local folder, copied to where the tasks of a run see it.

        In a task that happens at once; outside of one when the folder is given to a run, unless
        there is a `remote_destination`.

        Args:
            local_path: What to copy.
            remote_destination: Path or URL; None: a new path of the run.
            dir_cache_key: Stands for the content in cache keys.
            batch_size: Files that are on their way at once.
            chunk_size: Fewest bytes in a part of an upload.
            max_concurrency: Kept for Flyte programs: the parts of an upload share one bound.

        Raises:
            ValueError: There is no such folder.
        """
        del max_concurrency
        source = Path(local_path)
        if not source.is_dir():
            raise ValueError(f"Directory not found: {local_path}")
        name = os.path.basename(os.path.normpath(str(local_path)))  # noqa: PTH119 - "a/.." and "a/"
        raw = place_here()
        if remote_destination is None:
            if raw is None:
                folder = cls(path=str(local_path), name=name, hash=dir_cache_key)
                folder.lazy_uploader = LocalTree(source.absolute())
                return folder
            remote_destination = raw.get_random_remote_path(name)
        put_tree(source, remote_destination, files_at_once=batch_size, chunk_size=chunk_size)
        made = cls(path=from_root(remote_destination), name=name, hash=dir_cache_key)
        set_digest(made, digest_tree(source))
        return made

    @classmethod
    async def from_local(
        cls,
        local_path: str | Path,
        remote_destination: str | None = None,
        dir_cache_key: str | None = None,
        batch_size: int | None = None,
        chunk_size: int | None = None,
        max_concurrency: int | None = None,
    ) -> Self:
        """Do what `from_local_sync` does, awaited."""
        return await asyncio.to_thread(
            cls.from_local_sync,
            local_path,
            remote_destination,
            dir_cache_key,
            batch_size,
            chunk_size,
            max_concurrency,
        )

    # -------------------------------------------------------------- content

    def _files(self, *, recursive: bool, max_depth: int | None) -> Iterator[File[T]]:
        depth = max_depth if recursive else 1
        for path in walk(self.path, max_depth=depth):
            yield File[T](path=path)

    async def walk(
        self, recursive: bool = True, max_depth: int | None = None
    ) -> AsyncIterator[File[T]]:
        """Yield the files below the folder.

        Args:
            recursive: False: only those of the folder itself.
            max_depth: 1: the same; 2: also those of its folders, and so on; None: all.
        """
        files = self._files(recursive=recursive, max_depth=max_depth)
        while page := await asyncio.to_thread(_page, files):
            for file in page:
                yield file

    def walk_sync(
        self, recursive: bool = True, file_pattern: str = "*", max_depth: int | None = None
    ) -> Iterator[File[T]]:
        """Yield the files below the folder; see `walk`.

        Args:
            recursive: False: only those of the folder itself.
            file_pattern: What their names must look like, such as `*.csv`.
            max_depth: See `walk`.
        """
        for file in self._files(recursive=recursive, max_depth=max_depth):
            if fnmatch.fnmatchcase(name_of(file.path), file_pattern):
                yield file

    async def list_files(self) -> list[File[T]]:
        """Return the files of the folder itself."""
        return await asyncio.to_thread(self.list_files_sync)

    def list_files_sync(self) -> list[File[T]]:
        """Return the files of the folder itself."""
        return list(self._files(recursive=False, max_depth=None))

    async def get_file(self, file_name: str) -> File[T] | None:
        """Return the file of that name, or None."""
        return await asyncio.to_thread(self.get_file_sync, file_name)

    def get_file_sync(self, file_name: str) -> File[T] | None:
        """Return the file of that name, or None."""
        file = File[T](path=join(self.path, file_name))
        return file if file.exists_sync() else None

    async def exists(self) -> bool:
        """Say whether the folder is there."""
        return await asyncio.to_thread(self.exists_sync)

    def exists_sync(self) -> bool:
        """Say whether the folder is there."""
        return not self.is_empty and tree_exists(self.path)

    async def download(self, local_path: str | Path | None = None) -> str:
        """Do what `download_sync` does, awaited."""
        return await asyncio.to_thread(self.download_sync, local_path)

    def download_sync(self, local_path: str | Path | None = None) -> str:
        """Return the path of a local copy.

        Args:
            local_path: Folder to copy into; None: a temporary one, or the folder itself where
                it is local.

        Raises:
            FileNotFoundError: The folder is not there.
        """
        if not is_remote(self.path) and (not local_path or str(local_path) == self.path):
            return self.path
        target = scratch_path(name_of(self.path)) if local_path is None else local_path
        get_tree(self.path, Path(target))
        return str(target)


class EmptyDir(Dir[Any]):
    """A `Dir` that stands for none; where it arrives it is a `Dir` with `is_empty`."""

    def __init__(self, **data: Any) -> None:
        super().__init__(**{"name": "", **data, "path": _EMPTY_PATH})


def _page(files: Iterator[File[T]]) -> list[File[T]]:
    return [file for _, file in zip(range(_PAGE), files, strict=False)]
