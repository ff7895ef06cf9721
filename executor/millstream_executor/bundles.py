"""Code bundles on this node: fetched once, unpacked once, kept under their digest.

A bundle is a gzip-compressed tar of a project's modules. It comes from a client, so it is
walked member by member: regular files and directories inside the target only, with bounds on
count, size and ratio. What passes is renamed into place, so a folder that is there is whole.
"""

import asyncio
import compileall
import gzip
import io
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Final

from millstream_events.errors import BlobError, LogFullError
from millstream_events.ids import Digest
from millstream_events.ports import BlobStore

#: Unpacked size, tar headers included.
UNPACKED_BYTES_MAX: Final = 1024**3
MEMBERS_MAX: Final = 100_000
#: A bundle may unpack to this many times its own size, or to `_RATIO_FREE_BYTES`.
RATIO_MAX: Final = 200
_RATIO_FREE_BYTES: Final = 64 * 1024**2
_CHUNK_BYTES: Final = 1024 * 1024
_REGULAR: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)
#: Longest name of one path segment that file systems take.
_SEGMENT_BYTES_MAX: Final = 255


class BundleUnusableError(BlobError):
    """A bundle was fetched, and is not one that may be unpacked."""

    code = "bundle-unusable"

    def __init__(self, digest: str, why: str) -> None:
        super().__init__(digest, why)
        self.digest = digest
        self.why = why

    def __str__(self) -> str:
        return f"bundle {self.digest[:16]}: {self.why}"


class BundleCache:
    """Unpacked bundles under one folder."""

    def __init__(self, root: Path, blobs: BlobStore) -> None:
        self._root = root
        self._blobs = blobs
        self._number = 0
        self._fetching: dict[Digest, asyncio.Task[Path]] = {}

    async def open(self) -> None:
        """Make the folder, and remove what a dead process left half unpacked."""
        await asyncio.to_thread(_clean, self._root)

    async def folder(self, digest: Digest) -> Path:
        """Return the folder of an unpacked bundle, fetching it if need be.

        Raises:
            BlobMissingError, BlobCorruptError, LogUnavailableError: as `BlobStore.get`.
            BundleUnusableError: It must not, or cannot, be unpacked.
            LogFullError: The node's disk is full.
        """
        folder = self._root / digest.hex()
        if folder.exists():
            return folder
        fetching = self._fetching.get(digest)
        if fetching is None:
            name = f"bundle-{digest.hex()[:8]}"
            fetching = asyncio.create_task(self._fetch(digest, folder), name=name)
            self._fetching[digest] = fetching
            fetching.add_done_callback(lambda _: self._fetching.pop(digest, None))
        return await asyncio.shield(fetching)

    async def _fetch(self, digest: Digest, folder: Path) -> Path:
        archive = await self._blobs.get(digest)
        self._number += 1
        part = self._root / f".{digest.hex()[:32]}.{os.getpid()}-{self._number}"
        try:
            await asyncio.to_thread(_install, archive, part, folder, digest.hex())
        except OSError as exc:
            raise LogFullError(str(self._root)) from exc
        return folder


def unpack(archive: bytes, target: Path, name: str) -> None:
    """Unpack a bundle into `target`, a new folder.

    Raises:
        BundleUnusableError: It is damaged, over a bound, or has a member that is neither a
            regular file nor a directory inside the bundle.
    """
    limit_bytes = min(UNPACKED_BYTES_MAX, max(_RATIO_FREE_BYTES, RATIO_MAX * len(archive)))
    target.mkdir(parents=True)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(archive)) as unzipped:
            stream = _BoundedReader(unzipped, limit_bytes, name)
            with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK_BYTES) as tar:
                for count, member in enumerate(tar):
                    if count >= MEMBERS_MAX:
                        raise BundleUnusableError(name, f"more than {MEMBERS_MAX} members")
                    _unpack_member(tar, member, target, name)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as exc:
        raise BundleUnusableError(name, f"not a readable archive: {exc}") from exc
    except FileExistsError as exc:
        raise BundleUnusableError(name, "two members have the same name") from exc
    except (NotADirectoryError, IsADirectoryError) as exc:
        raise BundleUnusableError(name, "a file and a folder have the same name") from exc


class _BoundedReader(io.RawIOBase):
    """Refuses to deliver more than a bound: a small archive may unpack to anything."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, limit_bytes: int, name: str) -> None:
        super().__init__()
        self._stream = stream
        self._left_bytes = limit_bytes
        self._limit_bytes = limit_bytes
        self._name = name

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(min(size, _CHUNK_BYTES) if size >= 0 else _CHUNK_BYTES)
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise BundleUnusableError(self._name, f"unpacks to over {self._limit_bytes} bytes")
        return chunk


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, name: str) -> None:
    parts = PurePosixPath(member.name).parts
    unsafe = (
        member.name.startswith("/")
        or ".." in parts
        or "\\" in member.name
        or "\0" in member.name
        or any(len(os.fsencode(part)) > _SEGMENT_BYTES_MAX for part in parts)
    )
    if unsafe:
        raise BundleUnusableError(name, f"unsafe name {member.name[:80]!r}")
    path = target.joinpath(*parts)
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    if member.type not in _REGULAR or not parts:
        raise BundleUnusableError(name, f"{member.name[:80]!r} is not a regular file")
    path.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None, "a regular file has content"
    with path.open("xb") as copy:
        shutil.copyfileobj(source, copy, _CHUNK_BYTES)
    path.chmod(0o755 if member.mode & 0o100 else 0o644)
    os.utime(path, (max(member.mtime, 0), max(member.mtime, 0)))


def _install(archive: bytes, part: Path, folder: Path, name: str) -> None:
    try:
        unpack(archive, part, name)
        # Workers may be forbidden to write bytecode, and would compile every time.
        compileall.compile_dir(part, ddir=str(folder), quiet=2, workers=1)
        try:
            part.rename(folder)
        except OSError:
            # Another agent of this node was faster; what it put there is the same.
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _clean(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(".*"):
        _, _, owner = leftover.name.rpartition(".")
        pid = owner.partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(leftover, ignore_errors=True)
