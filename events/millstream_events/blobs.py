"""`BlobStore`: chunks in a JetStream stream, and files in a directory (a node's cache)."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final

import msgspec

from millstream_events.errors import (
    BlobCorruptError,
    BlobMissingError,
    BusUnavailableError,
    LogFullError,
    LogUnavailableError,
)
from millstream_events.ids import Digest, digest_of
from millstream_events.nats_streams import ensure_stream, get_direct, get_message, read_ack
from millstream_events.nats_wire import NatsWire
from millstream_events.subjects import blob_stream, blob_subject

CHUNK_BYTES: Final = 512 * 1024
#: Chunks under way at once, in each direction: 4 MiB.
CHUNKS_IN_FLIGHT: Final = 8
#: Most chunks of one blob: 16 GiB.
CHUNKS_MAX: Final = 32 * 1024
#: Longest for one `put` or `get` without progress of a chunk.
BLOB_DEADLINE_S: Final = 30.0
#: From this size on, hashing leaves the event loop's thread.
_HASH_INLINE_BYTES_MAX: Final = 256 * 1024
#: Part that says how many others there are; written last, so it stands for the whole.
_HEAD: Final = "0"


class _Head(msgspec.Struct, frozen=True, array_like=True):
    size_bytes: int
    parts: int


_head_decoder: Final = msgspec.msgpack.Decoder(_Head)


async def ensure_blobs(wire: NatsWire, ns: str, *, replicas: int) -> None:
    """Make the stream of chunks unless it is there.

    Raises:
        ConfigError: It is there with settings that endanger blobs.
        LogUnavailableError: No answer in time.
    """
    await ensure_stream(
        wire,
        blob_stream(),
        {
            "subjects": [blob_subject(ns, "*", "*")],
            "storage": "file",
            "discard": "new",
            "num_replicas": replicas,
            "max_msgs_per_subject": 1,
            "allow_direct": True,
        },
    )


class JetStreamBlobs:
    """`BlobStore` over one wire."""

    def __init__(self, wire: NatsWire, ns: str) -> None:
        self._wire = wire
        self._ns = ns

    async def put(self, content: bytes) -> Digest:
        """Store `content`; see `BlobStore.put`."""
        digest = await _digest(content)
        if await self.has(digest):
            return digest
        parts = -(-len(content) // CHUNK_BYTES)
        assert parts <= CHUNKS_MAX, f"{len(content)} bytes"
        chunks = iter(range(parts))

        async def send_next() -> None:
            for part in chunks:
                chunk = content[part * CHUNK_BYTES : (part + 1) * CHUNK_BYTES]
                await self._store(digest, str(part + 1), chunk)

        await _all_of(send_next, min(parts, CHUNKS_IN_FLIGHT))
        await self._store(digest, _HEAD, msgspec.msgpack.encode(_Head(len(content), parts)))
        return digest

    async def get(self, digest: Digest) -> bytes:
        """Return the content; see `BlobStore.get`."""
        encoded = await self._load(digest, _HEAD)
        if encoded is None:
            raise BlobMissingError(digest.hex())
        head = _read_head(digest, encoded)
        found = [b""] * head.parts
        chunks = iter(range(head.parts))

        async def load_next() -> None:
            for part in chunks:
                chunk = await self._load(digest, str(part + 1))
                if chunk is None:
                    raise BlobMissingError(digest.hex())
                found[part] = chunk

        await _all_of(load_next, min(head.parts, CHUNKS_IN_FLIGHT))
        content = found[0] if head.parts == 1 else b"".join(found)
        if len(content) != head.size_bytes or await _digest(content) != digest:
            raise BlobCorruptError(digest.hex(), len(content))
        return content

    async def has(self, digest: Digest) -> bool:
        """Say whether the blob is there, as far as its head tells."""
        return await self._load(digest, _HEAD) is not None

    async def _store(self, digest: Digest, part: str, chunk: bytes) -> None:
        subject = blob_subject(self._ns, digest.hex(), part)
        try:
            message = await self._wire.request(subject, chunk, deadline_s=BLOB_DEADLINE_S)
        except BusUnavailableError as exc:
            raise LogUnavailableError(blob_stream(), exc.why) from exc
        ack = read_ack(message)
        if isinstance(ack, str):
            raise LogUnavailableError(blob_stream(), ack)
        if ack.error is not None:
            if ack.error.is_full:
                raise LogFullError(blob_stream())
            raise LogUnavailableError(blob_stream(), ack.error.description)

    async def _load(self, digest: Digest, part: str) -> bytes | None:
        subject = blob_subject(self._ns, digest.hex(), part)
        content = await get_direct(self._wire, blob_stream(), subject, deadline_s=BLOB_DEADLINE_S)
        if content is not None:
            return content
        # A replica may not have it yet; the leader knows.
        stored = await get_message(self._wire, blob_stream(), last_of=subject)
        return None if stored is None else stored.entry.payload


class DirectoryBlobs:
    """`BlobStore` over a directory: one file for each blob, named by its digest.

    Several processes may share the directory. Not synced to disk: a cache, not a record.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0

    def path_of(self, digest: Digest) -> Path:
        """Return where the blob lies, or would lie."""
        name = digest.hex()
        return self._directory / name[:2] / name

    async def put(self, content: bytes) -> Digest:
        """Store `content`; see `BlobStore.put`."""
        digest = await _digest(content)
        path = self.path_of(digest)
        if not path.exists():
            self._number += 1
            partial = path.with_name(f"{path.name}.{os.getpid()}-{id(self):x}-{self._number}")
            try:
                await asyncio.to_thread(_write, partial, path, content)
            except OSError as exc:
                raise LogFullError(str(self._directory)) from exc
        return digest

    async def get(self, digest: Digest) -> bytes:
        """Return the content; see `BlobStore.get`. What is corrupt is removed."""
        path = self.path_of(digest)
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError as exc:
            raise BlobMissingError(digest.hex()) from exc
        if await _digest(content) != digest:
            path.unlink(missing_ok=True)
            raise BlobCorruptError(digest.hex(), len(content))
        return content

    async def has(self, digest: Digest) -> bool:
        """Say whether the blob's file is there."""
        return self.path_of(digest).exists()


def _write(partial: Path, path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_bytes(content)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


async def _digest(content: bytes) -> Digest:
    if len(content) <= _HASH_INLINE_BYTES_MAX:
        return digest_of(content)
    return await asyncio.to_thread(digest_of, content)


async def _all_of(worker: Callable[[], Coroutine[None, None, None]], workers: int) -> None:
    """Run `workers` of `worker` to their end, or raise the first error of one of them."""
    tasks = [asyncio.ensure_future(worker()) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _read_head(digest: Digest, encoded: bytes) -> _Head:
    try:
        head = _head_decoder.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BlobCorruptError(digest.hex(), len(encoded)) from exc
    if not 0 <= head.parts <= CHUNKS_MAX or head.parts != -(-head.size_bytes // CHUNK_BYTES):
        raise BlobCorruptError(digest.hex(), len(encoded))
    return head
