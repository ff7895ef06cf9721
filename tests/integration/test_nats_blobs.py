"""Blobs in JetStream: size, damage, what is half there."""

import asyncio
import os
import time

import pytest

from millstream_events.blobs import CHUNK_BYTES, DirectoryBlobs
from millstream_events.errors import BlobCorruptError, BlobMissingError, LogUnavailableError
from millstream_events.ids import digest_of

pytestmark = pytest.mark.alone


@pytest.mark.slow
async def test_a_hundred_megabytes_go_there_and_back_in_seconds(connection):
    content = os.urandom(100 * 1024 * 1024)
    start_s = time.monotonic()
    digest = await connection.blobs.put(content)
    assert await connection.blobs.get(digest) == content
    assert time.monotonic() - start_s < 20
    assert connection.losses == 0


async def test_the_bus_stays_quick_while_a_large_blob_is_put(connection):
    heard: list[float] = []
    connection.bus.subscribe("ms.test.beat", lambda at, payload: heard.append(time.monotonic()))
    putting = asyncio.create_task(connection.blobs.put(os.urandom(40 * 1024 * 1024)))
    waits: list[float] = []
    while not putting.done():
        before, sent_s = len(heard), time.monotonic()
        connection.bus.publish("ms.test.beat", b"")
        while len(heard) == before:
            await asyncio.sleep(0.001)
        waits.append(heard[-1] - sent_s)
    await putting
    assert len(waits) > 3
    assert max(waits) < 1


def subject_of(content: bytes, part: str) -> str:
    return f"ms.main.blob.{digest_of(content).hex()}.{part}"


async def test_a_blob_without_its_head_is_missing(connection):
    content = os.urandom(CHUNK_BYTES + 5)
    wire = connection._wire
    for part in ("1", "2"):
        await wire.request(subject_of(content, part), content[:CHUNK_BYTES], deadline_s=3)
    assert not await connection.blobs.has(digest_of(content))
    with pytest.raises(BlobMissingError):
        await connection.blobs.get(digest_of(content))
    assert await connection.blobs.put(content) == digest_of(content)
    assert await connection.blobs.get(digest_of(content)) == content


@pytest.mark.parametrize("damage", ["flipped", "short", "long", "head", "absurd head"])
async def test_a_damaged_blob_is_corrupt(connection, damage):
    content = os.urandom(CHUNK_BYTES + 5)
    digest = await connection.blobs.put(content)
    part, put = {
        "flipped": ("2", bytes(5)),
        "short": ("2", content[-5:-1]),
        "long": ("2", content[-5:] + b"x"),
        "head": ("0", b"\xc1junk"),
        "absurd head": ("0", b"\x92\x05\xcf" + b"\xff" * 8),
    }[damage]
    await connection._wire.request(subject_of(content, part), put, deadline_s=3)
    with pytest.raises(BlobCorruptError):
        await connection.blobs.get(digest)


async def test_a_blob_that_lost_a_part_is_missing(connection):
    content = os.urandom(CHUNK_BYTES + 5)
    digest = await connection.blobs.put(content)
    await connection._wire.request(
        "$JS.API.STREAM.PURGE.MS_BLOB",
        b'{"filter":"%b"}' % subject_of(content, "1").encode(),
        deadline_s=3,
    )
    with pytest.raises(BlobMissingError):
        await connection.blobs.get(digest)


async def test_a_blob_half_put_when_the_server_dies_can_be_put_again(nats, connection):
    content = os.urandom(30 * 1024 * 1024)
    putting = asyncio.create_task(connection.blobs.put(content))
    await asyncio.sleep(0.05)
    nats.process.kill()
    with pytest.raises(LogUnavailableError):
        await putting
    nats.restart()
    async with asyncio.timeout(20):
        while True:
            try:
                digest = await connection.blobs.put(content)
                break
            except LogUnavailableError:
                await asyncio.sleep(0.02)
    assert await connection.blobs.get(digest) == content


async def test_a_corrupt_file_of_the_cache_is_reported_once_and_then_missing(tmp_path):
    cache = DirectoryBlobs(tmp_path)
    digest = await cache.put(b"content")
    assert cache.path_of(digest).read_bytes() == b"content"
    cache.path_of(digest).write_bytes(b"c0ntent")
    with pytest.raises(BlobCorruptError):
        await cache.get(digest)
    with pytest.raises(BlobMissingError):
        await cache.get(digest)
    await cache.put(b"content")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [digest.hex()]
