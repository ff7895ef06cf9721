"""Large values in a worker: files in the node's cache, brought and kept by the agent."""

import asyncio
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from millstream_events import errors
from millstream_events.errors import BlobCorruptError, BlobMissingError, MillstreamError
from millstream_events.ids import Digest, digest_of
from millstream_events.values import INLINE_BYTES_MAX, Blob, Inline, Value
from millstream_executor.link import BlobFetched, BlobStored, FromWorker, StoreBlob, WantBlob

#: Above this size hashing, reading and writing leave the loop.
OFF_LOOP_BYTES: Final = 256 * 1024
_LOG_NAME: Final = "blobs"

_Result = TypeVar("_Result")


def blob_path(cache_dir: Path, digest: bytes) -> Path:
    """Return where the node's cache keeps the blob of that digest."""
    return cache_dir / "blobs" / digest.hex()


class WorkerBlobs:
    """Reads and writes values of any size. On the worker's loop only."""

    def __init__(self, cache_dir: Path, post: Callable[[FromWorker], None]) -> None:
        self._cache_dir = cache_dir
        self._post = post
        self._wanted: dict[bytes, asyncio.Future[None]] = {}
        self._storing: dict[bytes, asyncio.Future[None]] = {}

    def fetched(self, answer: BlobFetched) -> None:
        """Take the answer to `WantBlob`."""
        _settle(self._wanted.pop(answer.digest, None), answer)

    def stored(self, answer: BlobStored) -> None:
        """Take the answer to `StoreBlob`."""
        _settle(self._storing.pop(answer.digest, None), answer)

    async def fetch(self, value: Value) -> bytes:
        """Return the content of `value`.

        Raises:
            BlobMissingError, BlobCorruptError, LogUnavailableError: as `BlobStore.get`.
        """
        if isinstance(value, Inline):
            return value.content
        return await self.fetch_blob(value)

    async def fetch_blob(self, blob: Blob) -> bytes:
        """Return the content of `blob`, which the agent brings when the node has it not.

        Raises:
            BlobMissingError, BlobCorruptError, LogUnavailableError: as `BlobStore.get`.
        """
        path = blob_path(self._cache_dir, blob.digest)
        # The cache may drop a file between the agent's word and our reading, so twice.
        for _ in range(2):
            content = await _on_size(blob.size_bytes, lambda: _read(path, blob.digest))
            if content is not None:
                return content
            await self._ask(self._wanted, blob.digest, WantBlob(blob.digest))
        content = await _on_size(blob.size_bytes, lambda: _read(path, blob.digest))
        if content is None:
            raise BlobMissingError(blob.digest.hex())
        return content

    async def store(self, content: bytes, codec: str) -> Value:
        """Return a `Value` for `content`; a blob is durable in the cluster by then.

        Raises:
            LogUnavailableError, LogFullError: as `BlobStore.put`.
        """
        if len(content) <= INLINE_BYTES_MAX:
            return Inline(codec, content)
        digest = await _on_size(len(content), lambda: _write(self._cache_dir, content))
        await self._ask(self._storing, digest, StoreBlob(digest, len(content)))
        return Blob(digest, len(content), codec)

    async def _ask(
        self, asked: dict[bytes, asyncio.Future[None]], digest: bytes, request: FromWorker
    ) -> None:
        """Ask the agent once for all who want the same, and wait."""
        future = asked.get(digest)
        if future is None:
            future = asked[digest] = asyncio.get_running_loop().create_future()
            self._post(request)
        # One of several waiters may be cancelled; the others still wait.
        await asyncio.shield(future)


async def _on_size(size_bytes: int, body: Callable[[], _Result]) -> _Result:
    if size_bytes <= OFF_LOOP_BYTES:
        return body()
    return await asyncio.to_thread(body)


def _read(path: Path, digest: bytes) -> bytes | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if digest_of(content) != digest:
        # A torn or damaged file must not be met again.
        path.unlink(missing_ok=True)
        raise BlobCorruptError(digest.hex(), len(content))
    return content


def _write(cache_dir: Path, content: bytes) -> Digest:
    digest = digest_of(content)
    path = blob_path(cache_dir, digest)
    if path.exists():
        return digest
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return digest


def _settle(future: asyncio.Future[None] | None, answer: BlobFetched | BlobStored) -> None:
    if future is None or future.done():
        return
    if not answer.code:
        future.set_result(None)
        return
    future.set_exception(_error_of(answer))
    # Every waiter may have been cancelled; then nobody retrieves it.
    future.exception()


def _error_of(answer: BlobFetched | BlobStored) -> MillstreamError:
    if answer.code == BlobMissingError.code:
        return BlobMissingError(answer.digest.hex())
    if answer.code == BlobCorruptError.code:
        return BlobCorruptError(answer.digest.hex(), 0)
    if answer.code == errors.LogFullError.code:
        return errors.LogFullError(_LOG_NAME)
    return errors.LogUnavailableError(_LOG_NAME, answer.why or answer.code)
