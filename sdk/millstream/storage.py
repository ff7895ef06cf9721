"""Object stores and local disks: how they are reached, and moves of whole files and folders.

`File` and `Dir` of `millstream.io` do all of this by themselves; here are the parts.
"""

import asyncio
import importlib
import os
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any, Final

from millstream._io_config import ABFS, GCS, S3, Storage, chosen_storage
from millstream._io_paths import (
    RawDataPath,
    is_remote,
    join,
    local_path,
    place_here,
    protocol_of,
    scratch_path,
)
from millstream._io_store import config_of
from millstream._io_streams import AsyncFile, open_file
from millstream._io_transfer import file_exists, get_file, get_tree, put_file, put_tree, tree_exists

#: Bytes of a piece that `get_stream` yields.
_STREAM_BYTES: Final = 10 * 1024 * 1024


async def exists(path: str, **kwargs: Any) -> bool:
    """Say whether a file or folder is there; `kwargs` are taken for Flyte programs."""
    return await asyncio.to_thread(exists_sync, path, **kwargs)


def exists_sync(path: str, **kwargs: Any) -> bool:
    """Say whether a file or folder is there; `kwargs` are taken for Flyte programs."""
    del kwargs
    return file_exists(path) or (is_remote(path) and tree_exists(path))


async def get(
    from_path: str,
    to_path: str | Path | None = None,
    recursive: bool = False,
    **kwargs: Any,
) -> str:
    """Copy a file, or a folder with `recursive`, to a local path, and return that.

    Args:
        from_path: Local path or URL.
        to_path: None: a temporary one. A file may be given the folder to put it in.
        recursive: It is a folder.
        kwargs: Taken for Flyte programs.

    Raises:
        FileNotFoundError: There is nothing.
    """
    del kwargs
    name = Path(from_path).name
    target = scratch_path(name) if not to_path else Path(to_path)
    if recursive:
        await asyncio.to_thread(get_tree, from_path, target)
        return str(target)
    if to_path and (str(to_path).endswith(os.sep) or target.is_dir()):
        target /= name
    await asyncio.to_thread(get_file, from_path, target)
    return str(target)


async def put(
    from_path: str,
    to_path: str | None = None,
    recursive: bool = False,
    batch_size: int | None = None,
    chunk_size: int | None = None,
    max_concurrency: int | None = None,
    **kwargs: Any,
) -> str:
    """Copy a local file, or a folder with `recursive`, and return where it is.

    Args:
        from_path: Local path.
        to_path: Path or URL; None: a new path of the run.
        recursive: It is a folder.
        batch_size: Files that are on their way at once.
        chunk_size: Fewest bytes in a part of an upload.
        max_concurrency: Taken for Flyte programs, as `kwargs`.
        kwargs: Taken for Flyte programs.

    Raises:
        ValueError: No `to_path`, outside of a task.
    """
    del max_concurrency, kwargs
    source = local_path(from_path)
    target = to_path or _place().get_random_remote_path(source.name)
    if recursive:
        await asyncio.to_thread(
            put_tree, source, target, files_at_once=batch_size, chunk_size=chunk_size
        )
    else:
        await asyncio.to_thread(put_file, source, target, chunk_size=chunk_size)
    return target


async def open(path: str, mode: str = "rb", **kwargs: Any) -> AsyncFile:  # noqa: A001 - Flyte's name
    """Open a file; what is written appears when it is closed."""
    for hint in ("cache_type", "cache_options"):
        kwargs.pop(hint, None)
    return AsyncFile(await asyncio.to_thread(lambda: open_file(path, mode, **kwargs)))


async def put_stream(
    data_iterable: AsyncIterable[bytes] | bytes,
    *,
    name: str | None = None,
    to_path: str | None = None,
    size_hint: int | None = None,
    chunk_size: int | None = None,
    max_concurrency: int | None = None,
    **kwargs: Any,
) -> str:
    """Write what comes to a file, and return where it is.

    Args:
        data_iterable: The content, whole or in pieces.
        name: Last part of a new path of the run.
        to_path: Path or URL instead.
        size_hint: Expected bytes, for the size of the parts of an upload.
        chunk_size: Fewest bytes in a part of an upload.
        max_concurrency: Taken for Flyte programs, as `kwargs`.
        kwargs: Taken for Flyte programs.

    Raises:
        ValueError: No `to_path`, outside of a task.
    """
    del max_concurrency, kwargs
    target = to_path or _place().get_random_remote_path(name)
    held = await asyncio.to_thread(
        lambda: open_file(target, "wb", size_hint=size_hint, block_size=chunk_size)
    )
    async with AsyncFile(held) as file:
        if isinstance(data_iterable, bytes):
            await file.write(data_iterable)
        else:
            async for piece in data_iterable:
                await file.write(piece)
    return target


async def get_stream(
    path: str, chunk_size: int = _STREAM_BYTES, **kwargs: Any
) -> AsyncIterator[bytes]:
    """Yield the content of a file in pieces of up to `chunk_size` bytes."""
    del kwargs
    async with await open(path, "rb") as file:
        while piece := await file.read(chunk_size):
            yield bytes(piece)


def get_random_local_path(file_path_or_file_name: str | Path | None = None) -> Path:
    """Return a new path in a new temporary folder, with the name of the given one."""
    return scratch_path(Path(file_path_or_file_name).name if file_path_or_file_name else "")


def get_random_local_directory() -> Path:
    """Return a new temporary folder."""
    folder = scratch_path()
    folder.mkdir(parents=True)
    return folder


def get_configured_fsspec_kwargs(
    protocol: str | None = None, anonymous: bool = False
) -> dict[str, Any]:
    """Return the arguments by which fsspec reaches a kind of store; None: the configured one."""
    config = config_of(protocol) if protocol else chosen_storage()
    return {} if config is None else config.get_fsspec_kwargs(anonymous=anonymous)


def get_underlying_filesystem(
    protocol: str | None = None, anonymous: bool = False, path: str | None = None, **kwargs: Any
) -> Any:
    """Return the fsspec file system of a protocol or path.

    Raises:
        ValueError: Of a protocol that neither fsspec nor a configured store knows.
    """
    scheme = protocol or protocol_of(path or "")
    options = {**get_configured_fsspec_kwargs(scheme, anonymous), **kwargs}
    if config_of(scheme) is not None:
        importlib.import_module("obstore.fsspec").register(scheme, asynchronous=True)
    return importlib.import_module("fsspec").filesystem(scheme, **options)


def _place() -> RawDataPath:
    raw = place_here()
    if raw is None:
        raise ValueError("Raw data path has not been set in the context: name a `to_path`")
    return raw


__all__ = [
    "ABFS",
    "GCS",
    "S3",
    "Storage",
    "exists",
    "exists_sync",
    "get",
    "get_configured_fsspec_kwargs",
    "get_random_local_directory",
    "get_random_local_path",
    "get_stream",
    "get_underlying_filesystem",
    "is_remote",
    "join",
    "open",
    "put",
    "put_stream",
]
