"""Large values on this node: files that workers read and write, bounded in size.

The agent brings blobs into the folder and stores what workers put there; `worker_blobs` says
where a blob's file lies, for both sides.
"""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

from millstream_events.errors import BlobMissingError, LogFullError
from millstream_events.ids import Digest
from millstream_events.ports import BlobStore
from millstream_executor.worker_blobs import blob_path

#: An eviction goes on until this part of the bound is left, so that it is rare.
_KEEP_PERCENT: Final = 90
#: Files younger than this are not evicted: somebody asked for them just now.
_KEEP_NS: Final = 60 * 1_000_000_000


class BlobCache:
    """The node's blobs, over the cluster's store."""

    def __init__(self, cache_dir: Path, blobs: BlobStore, *, bytes_max: int) -> None:
        self._cache_dir = cache_dir
        self._blobs = blobs
        self._bytes_max = bytes_max
        self._bytes = 0
        self._number = 0
        self._fetching: dict[Digest, asyncio.Task[None]] = {}
        self._evicting: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Count what is there, and remove what a dead process left half written."""
        self._bytes = await asyncio.to_thread(_survey, self._cache_dir)

    async def fetch(self, digest: Digest) -> None:
        """Bring a blob into the folder, once for all who ask at the same time.

        Raises:
            BlobMissingError, BlobCorruptError, LogUnavailableError: as `BlobStore.get`.
            LogFullError: The node's disk is full.
        """
        if blob_path(self._cache_dir, digest).exists():
            return
        fetching = self._fetching.get(digest)
        if fetching is None:
            fetching = asyncio.create_task(self._fetch(digest), name=f"blob-{digest.hex()[:8]}")
            self._fetching[digest] = fetching
            fetching.add_done_callback(lambda _: self._fetching.pop(digest, None))
        await asyncio.shield(fetching)

    async def push(self, digest: Digest, size_bytes: int) -> None:
        """Store in the cluster what a worker has put into the folder.

        Raises:
            BlobMissingError: There is no such file.
            LogFullError, LogUnavailableError: as `BlobStore.put`.
        """
        path = blob_path(self._cache_dir, digest)
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError as exc:
            raise BlobMissingError(digest.hex()) from exc
        if await self._blobs.put(content) != digest:
            path.unlink(missing_ok=True)
            raise BlobMissingError(digest.hex())
        self._grow(size_bytes)

    async def _fetch(self, digest: Digest) -> None:
        content = await self._blobs.get(digest)
        path = blob_path(self._cache_dir, digest)
        self._number += 1
        part = path.with_name(f"{path.name}.{os.getpid()}-{self._number}.part")
        try:
            await asyncio.to_thread(_write, part, path, content)
        except OSError as exc:
            raise LogFullError(str(self._cache_dir)) from exc
        self._grow(len(content))

    def _grow(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        if self._bytes > self._bytes_max and self._evicting is None:
            self._evicting = asyncio.create_task(self._evict(), name="blob-eviction")

    async def _evict(self) -> None:
        keep_bytes = self._bytes_max * _KEEP_PERCENT // 100
        try:
            self._bytes = await asyncio.to_thread(_shrink, self._cache_dir, keep_bytes)
        finally:
            self._evicting = None


def _write(part: Path, path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _files(cache_dir: Path) -> list[tuple[Path, os.stat_result]]:
    found: list[tuple[Path, os.stat_result]] = []
    for path in (cache_dir / "blobs").rglob("*"):
        # A worker may be renaming or removing it just now.
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found.append((path, path.stat()))
    return found


def _survey(cache_dir: Path) -> int:
    total_bytes = 0
    for path, stat in _files(cache_dir):
        if path.suffix == ".part":
            path.unlink(missing_ok=True)
        else:
            total_bytes += stat.st_size
    return total_bytes


def _shrink(cache_dir: Path, keep_bytes: int) -> int:
    """Remove the files that were read longest ago; return how many bytes are left."""
    files = sorted(_files(cache_dir), key=lambda entry: entry[1].st_atime_ns)
    total_bytes = sum(stat.st_size for _, stat in files)
    if not files:
        return 0
    newest_ns = max(max(stat.st_atime_ns, stat.st_mtime_ns) for _, stat in files)
    for path, stat in files:
        if total_bytes <= keep_bytes:
            break
        if newest_ns - max(stat.st_atime_ns, stat.st_mtime_ns) > _KEEP_NS:
            path.unlink(missing_ok=True)
            total_bytes -= stat.st_size
    return total_bytes
