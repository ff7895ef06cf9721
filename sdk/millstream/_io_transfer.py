"""Moves of whole files and trees between local disks and object stores, hashed on the way.

Sync, with bounded memory; async callers let a thread wait (`asyncio.to_thread`).
"""

import concurrent.futures
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from millstream._io_hashing import HashMethod, PrecomputedValue
from millstream._io_paths import is_remote, join, local_path
from millstream._io_store import download_object, object_exists, objects_below, prefix_exists
from millstream._io_streams import COPY_BYTES, Watcher, closing, open_file

#: Bytes of a digest of content.
DIGEST_BYTES: Final = 16
#: Files of a directory that are on their way at once.
FILES_AT_ONCE: Final = 32


class Digest:
    """The hash by which content is known, taken while it is written."""

    def __init__(self) -> None:
        self._state = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def update(self, data: object, /) -> None:
        """Take one more piece."""
        self._state.update(data)  # type: ignore[arg-type] # whatever has a buffer

    def value(self) -> bytes:
        """Return the hash of all that came."""
        return self._state.digest()


def digest_file(path: Path, watchers: Iterable[Watcher] = ()) -> bytes:
    """Return the digest of a local file, in one pass."""
    digest = Digest()
    with path.open("rb") as file:
        while chunk := file.read(COPY_BYTES):
            for watcher in (digest, *watchers):
                watcher.update(memoryview(chunk))
    return digest.value()


def digest_tree(folder: Path) -> bytes:
    """Return the digest of names and contents of everything below a folder."""
    digest = Digest()
    for path in files_in(folder):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(digest_file(path))
    return digest.value()


def files_in(folder: Path) -> list[Path]:
    """Return the files below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def put_file(
    source: Path,
    target: str,
    hash_method: HashMethod | None = None,
    *,
    chunk_size: int | None = None,
) -> bytes:
    """Copy a local file to `target`, local or remote, and return its digest.

    Args:
        source: What to copy.
        target: Path or URL; it appears whole.
        hash_method: Sees the content as it passes, unless it knows the hash already.
        chunk_size: Fewest bytes in a part of an upload.
    """
    digest = Digest()
    watchers: list[Watcher] = [digest]
    if hash_method is not None and not isinstance(hash_method, PrecomputedValue):
        watchers.append(hash_method)
    with source.open("rb") as file:
        held = open_file(
            target,
            "wb",
            watchers=watchers,
            size_hint=source.stat().st_size,
            block_size=chunk_size,
        )
        with closing(held) as out:
            shutil.copyfileobj(file, out, COPY_BYTES)
    return digest.value()


def get_file(source: str, target: Path) -> None:
    """Copy a file, local or remote, to a local path.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if is_remote(source):
        download_object(source, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(local_path(source), target)


def put_tree(
    source: Path, target: str, *, files_at_once: int | None = None, chunk_size: int | None = None
) -> None:
    """Copy everything below a local folder to below `target`."""
    if not is_remote(target):
        shutil.copytree(source, local_path(target), dirs_exist_ok=True)
        return
    paths = files_in(source)
    with concurrent.futures.ThreadPoolExecutor(files_at_once or FILES_AT_ONCE) as pool:
        moves = [
            pool.submit(
                put_file,
                path,
                join(target, path.relative_to(source).as_posix()),
                chunk_size=chunk_size,
            )
            for path in paths
        ]
        for move in moves:
            move.result()


def get_tree(source: str, target: Path) -> None:
    """Copy everything below `source` to a local folder.

    Raises:
        FileNotFoundError: There is nothing.
    """
    if not is_remote(source):
        shutil.copytree(local_path(source), target, dirs_exist_ok=True)
        return
    target.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        moves = [
            pool.submit(download_object, url, target / relative)
            for url, relative in objects_below(source)
        ]
        for move in moves:
            move.result()
    if not moves:
        raise FileNotFoundError(f"nothing lies below {source}")


def file_exists(path: str) -> bool:
    """Say whether there is a file (or, locally, a folder) at `path`."""
    return object_exists(path) if is_remote(path) else local_path(path).exists()


def tree_exists(path: str) -> bool:
    """Say whether there is a folder at `path`, or any object below it."""
    return prefix_exists(path) if is_remote(path) else local_path(path).exists()


def walk(path: str, *, max_depth: int | None = None) -> Iterator[str]:
    """Yield the path of every file below `path`, those of a folder before those below it.

    Args:
        path: Of a folder; of a file: nothing is yielded.
        max_depth: 1: only the files of the folder itself; None: all.
    """
    if is_remote(path):
        for url, relative in objects_below(path, recursive=max_depth != 1):
            if max_depth is None or relative.count("/") < max_depth:
                yield url
        return
    root = local_path(path)
    for parent, folders, files in os.walk(root):
        folders.sort()
        yield from (str(Path(parent) / name) for name in sorted(files))
        depth = len(Path(parent).relative_to(root).parts) + 1
        if max_depth is not None and depth >= max_depth:
            folders.clear()
