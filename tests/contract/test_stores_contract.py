"""`LeaseStore`, `BlobStore` and `OutputStore`: what every adapter promises."""

import asyncio
import os
from contextlib import aclosing

import pytest

from millstream_events.blobs import CHUNK_BYTES, DirectoryBlobs
from millstream_events.connect import connect
from millstream_events.errors import BlobMissingError, LogUnavailableError, StaleWriterError
from millstream_events.ids import Digest, digest_of
from millstream_events.memory import MemoryBlobs
from millstream_events.ports import OutputBatch, OutputLine

# -- leases


async def test_a_lease_that_nobody_wrote_is_none(rig):
    assert await (await rig.connect()).leases.read(f"{rig.shard}.none") is None


async def test_a_lease_is_written_only_at_its_revision(rig):
    leases = (await rig.connect()).leases
    key = f"shard.{rig.shard}.cas"
    first = await leases.write(key, b"a", 0)
    assert await leases.read(key) == (b"a", first)
    second = await leases.write(key, b"b", first)
    assert second > first
    for stale in (0, first, second + 1):
        with pytest.raises(StaleWriterError):
            await leases.write(key, b"c", stale)
    assert await leases.read(key) == (b"b", second)


async def test_of_many_writers_at_one_revision_exactly_one_wins(rig):
    connections = [await rig.connect() for _ in range(5)]
    key = f"shard.{rig.shard}.race"
    revision = 0
    for _ in range(5):
        results = await asyncio.gather(
            *(c.leases.write(key, b"%d" % n, revision) for n, c in enumerate(connections)),
            return_exceptions=True,
        )
        won = [result for result in results if isinstance(result, int)]
        assert len(won) == 1
        assert sum(isinstance(result, StaleWriterError) for result in results) == 4
        revision = won[0]


async def test_a_deleted_lease_is_none_and_can_be_written_anew(rig):
    leases = (await rig.connect()).leases
    key = f"shard.{rig.shard}.del"
    first = await leases.write(key, b"a", 0)
    await leases.delete(key, first + 7)
    assert await leases.read(key) == (b"a", first)
    await leases.delete(key, first)
    assert await leases.read(key) is None
    with pytest.raises(StaleWriterError):
        await leases.write(key, b"b", first)
    again = await leases.write(key, b"b", 0)
    assert again > first
    assert await leases.read(key) == (b"b", again)


async def test_leases_answer_unavailable_while_the_server_is_away(breakable):
    leases = (await breakable.connect()).leases
    if breakable.kind == "memory":
        leases.connected = False
    breakable.cut()
    with pytest.raises(LogUnavailableError):
        await leases.read("shard.x")
    with pytest.raises(LogUnavailableError):
        await leases.write("shard.x", b"", 0)


# -- blobs


@pytest.fixture(params=["memory", "nats", "directory"])
async def blobs(request, tmp_path):
    if request.param == "directory":
        yield DirectoryBlobs(tmp_path / "blobs")
    elif request.param == "memory":
        yield MemoryBlobs()
    else:
        server = request.getfixturevalue("shared_server")
        connection = await connect(server.endpoint, name="blobs")
        await connection.ensure_streams("blobs")
        yield connection.blobs
        await connection.close()


SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 20 * CHUNK_BYTES + 17]


@pytest.mark.parametrize("size", SIZES)
async def test_a_blob_comes_back_as_it_was_put(blobs, size):
    content = os.urandom(size)
    digest = digest_of(content)
    if size:
        assert not await blobs.has(digest)
    assert await blobs.put(content) == digest
    assert await blobs.has(digest)
    assert await blobs.get(digest) == content
    assert await blobs.put(content) == digest


async def test_a_blob_that_nobody_put_is_missing(blobs):
    digest = Digest(os.urandom(32))
    assert not await blobs.has(digest)
    with pytest.raises(BlobMissingError):
        await blobs.get(digest)


async def test_the_same_blob_may_be_put_by_several_at_once(blobs):
    content = os.urandom(3 * CHUNK_BYTES)
    digests = await asyncio.gather(*(blobs.put(content) for _ in range(5)))
    assert set(digests) == {digest_of(content)}
    assert await blobs.get(digests[0]) == content


async def test_what_one_connection_put_another_gets(rig):
    digest = await (await rig.connect()).blobs.put(b"shared")
    assert await (await rig.connect()).blobs.get(digest) == b"shared"


# -- outputs


def batch(run: str, action: int, *texts: str) -> OutputBatch:
    return OutputBatch(run, action, tuple(OutputLine(1, 1, text) for text in texts))


async def all_of(outputs, run: str, count: int, **choice) -> list[tuple[int, OutputBatch]]:
    async with asyncio.timeout(3):
        while len(found := await outputs.read(run, **choice)) < count:
            await asyncio.sleep(0.005)
    return list(found)


async def test_outputs_are_read_by_run_action_and_sequence(rig):
    outputs = (await rig.connect()).outputs
    run = f"{rig.shard}-run"
    sent = [batch(run, n % 2, f"line {n}", "ünïcode \x00") for n in range(6)]
    for one in sent:
        outputs.put("pool", one)
    outputs.put("pool", batch(f"{run}-other", 0, "not mine"))
    found = await all_of(outputs, run, 6)
    assert [one for _, one in found] == sent
    assert [seq for seq, _ in found] == sorted({seq for seq, _ in found})
    assert [one for _, one in await outputs.read(run, action=1)] == sent[1::2]
    assert [one for _, one in await outputs.read(run, after_seq=found[3][0])] == sent[4:]
    assert list(await outputs.read("nobody")) == []


@pytest.mark.parametrize("action", [None, 1])
async def test_a_follower_of_outputs_gets_what_is_there_and_what_comes(rig, within, action):
    connection, writer = await rig.connect(), await rig.connect()
    run = f"{rig.shard}-run"
    for n in range(4):
        writer.outputs.put("pool", batch(run, n % 2, str(n)))
    seen: list[str] = []

    async def follow() -> None:
        async with aclosing(connection.outputs.follow(run, action=action)) as batches:
            async for _, one in batches:
                seen.append(one.lines[0].text)

    following = asyncio.create_task(follow())
    await within(lambda: len(seen) == (4 if action is None else 2))
    for n in range(4, 40):
        writer.outputs.put("pool", batch(run, n % 2, str(n)))
        await asyncio.sleep(0.001)
    wanted = [str(n) for n in range(40) if action is None or n % 2 == 1]
    await within(lambda: len(seen) >= len(wanted))
    assert seen == wanted
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
