"""Bundles and blobs on a node: unpacked once, safely, and shared."""

import asyncio
import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from millstream_events.errors import BlobMissingError
from millstream_events.ids import Digest, digest_of
from millstream_executor import bundles
from millstream_executor.blob_cache import BlobCache
from millstream_executor.bundles import BundleCache, BundleUnusableError, unpack
from millstream_executor.worker_blobs import blob_path


class CountingBlobs:
    """A blob store in memory that counts how often it is read."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {digest_of(content): content for content in contents}
        self.gets = 0

    async def put(self, content: bytes) -> Digest:
        digest = digest_of(content)
        self.contents[digest] = content
        return digest

    async def get(self, digest: Digest) -> bytes:
        self.gets += 1
        await asyncio.sleep(0.01)
        if digest not in self.contents:
            raise BlobMissingError(digest.hex())
        return self.contents[digest]

    async def has(self, digest: Digest) -> bool:
        return digest in self.contents


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content)
    return info


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def file(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, content), content


def link(name: str, target: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = member(name, kind=kind)
    info.linkname = target
    return info, b""


GOOD = archive(
    (member("pkg", kind=tarfile.DIRTYPE), b""),
    file("pkg/mod.py", b"X = 1\n"),
    file("millstream-bundle.json", b"{}"),
)


async def test_a_bundle_is_fetched_and_unpacked_once_for_all_who_ask(tmp_path: Path) -> None:
    blobs = CountingBlobs(GOOD)
    cache = BundleCache(tmp_path / "bundles", blobs)
    await cache.open()
    digest = digest_of(GOOD)
    folders = await asyncio.gather(*[cache.folder(digest) for _ in range(5)])
    assert len(set(folders)) == 1
    assert (folders[0] / "pkg/mod.py").read_text() == "X = 1\n"
    assert list((folders[0] / "pkg/__pycache__").glob("mod.*.pyc"))
    assert await cache.folder(digest) == folders[0]
    assert blobs.gets == 1
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == [digest.hex()]


async def test_a_bundle_that_nobody_stored_is_missing_each_time(tmp_path: Path) -> None:
    blobs = CountingBlobs()
    cache = BundleCache(tmp_path, blobs)
    for _ in range(2):
        with pytest.raises(BlobMissingError):
            await cache.folder(digest_of(b"x"))
    assert blobs.gets == 2


async def test_what_a_dead_agent_left_half_unpacked_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".abc.999999999-1"
    mine = tmp_path / f".abc.{os.getpid()}-1"
    left.mkdir()
    mine.mkdir()
    await BundleCache(tmp_path, CountingBlobs()).open()
    assert not left.exists()
    assert mine.exists()


@pytest.mark.parametrize(
    "bad",
    [
        archive(file("/etc/passwd", b"x")),
        archive(file("../x", b"x")),
        archive(file("a/../../x", b"x")),
        archive(file("a\\b", b"x")),
        archive(file("n" * 300, b"x")),
        archive(link("l", "/etc/passwd", tarfile.SYMTYPE)),
        archive(file("a", b"x"), link("l", "a", tarfile.LNKTYPE)),
        archive((member("d", kind=tarfile.CHRTYPE), b"")),
        archive((member("f", kind=tarfile.FIFOTYPE), b"")),
        archive(file("a", b"1"), file("a", b"2")),
        archive(file("a", b"1"), file("a/b", b"2")),
        b"not gzip",
        gzip.compress(b"not tar" * 1000),
        GOOD[:-30],
        b"",
    ],
    ids=[
        "absolute", "above", "above later", "backslash", "long name", "symlink", "hard link",
        "device", "fifo", "twice", "file and folder", "not gzip", "not tar", "cut off", "empty",
    ],
)  # fmt: skip
def test_an_archive_that_is_not_plain_files_inside_itself_is_refused(
    bad: bytes, tmp_path: Path
) -> None:
    with pytest.raises(BundleUnusableError):
        unpack(bad, tmp_path / "target", "name")
    outside = [path for path in tmp_path.iterdir() if path.name != "target"]
    assert outside == []


@pytest.mark.parametrize(
    ("name", "bound", "make"),
    [
        ("MEMBERS_MAX", 3, lambda: archive(*[file(f"f{n}", b"") for n in range(4)])),
        ("UNPACKED_BYTES_MAX", 50_000, lambda: archive(file("f", bytes(100_000)))),
        ("_RATIO_FREE_BYTES", 1_000, lambda: archive(file("f", bytes(10_000_000)))),
    ],
)
def test_an_archive_over_a_bound_is_refused(
    name: str,
    bound: int,
    make: Callable[[], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundles, name, bound)
    with pytest.raises(BundleUnusableError):
        unpack(make(), tmp_path / "target", "name")


async def test_a_blob_is_fetched_once_and_then_read_from_the_node(tmp_path: Path) -> None:
    content = b"v" * 1000
    blobs = CountingBlobs(content)
    cache = BlobCache(tmp_path, blobs, bytes_max=10_000)
    await cache.open()
    digest = digest_of(content)
    await asyncio.gather(*[cache.fetch(digest) for _ in range(5)])
    await cache.fetch(digest)
    assert blob_path(tmp_path, digest).read_bytes() == content
    assert blobs.gets == 1


async def test_what_a_worker_wrote_is_stored_in_the_cluster(tmp_path: Path) -> None:
    content = b"v" * 1000
    blobs = CountingBlobs()
    cache = BlobCache(tmp_path, blobs, bytes_max=10_000)
    digest = digest_of(content)
    with pytest.raises(BlobMissingError):
        await cache.push(digest, len(content))
    path = blob_path(tmp_path, digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    await cache.push(digest, len(content))
    assert blobs.contents == {digest: content}


async def test_blobs_read_longest_ago_make_room(tmp_path: Path) -> None:
    contents = [bytes([n]) * 1000 for n in range(6)]
    cache = BlobCache(tmp_path, CountingBlobs(*contents), bytes_max=5_500)
    for n, content in enumerate(contents[:5]):
        digest = digest_of(content)
        await cache.fetch(digest)
        os.utime(blob_path(tmp_path, digest), (1_000 + n, 1_000))
    await cache.fetch(digest_of(contents[5]))
    async with asyncio.timeout(5):
        while blob_path(tmp_path, digest_of(contents[0])).exists():
            await asyncio.sleep(0.01)
    assert not blob_path(tmp_path, digest_of(contents[1])).exists()
    for content in contents[2:]:
        assert blob_path(tmp_path, digest_of(content)).exists()
