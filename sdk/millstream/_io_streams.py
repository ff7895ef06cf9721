"""Open files, local or in an object store, sync and async; memory is bounded by their buffers.

A local file that is written appears whole, under its name, when it is closed; an object does so
by nature. What fails on the way leaves neither.
"""

import asyncio
import bz2
import contextlib
import gzip
import io
import lzma
import os
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from pathlib import Path
from typing import IO, Any, Final, Protocol, Self, cast

from millstream._io_paths import is_remote, local_path
from millstream._io_store import open_object, write_object

#: Bytes that a stream holds at most between user code and a local disk.
BUFFER_BYTES: Final = 1024 * 1024
#: Bytes that one read returns while content is copied.
COPY_BYTES: Final = 8 * 1024 * 1024

_COMPRESSED: Final[dict[str, Callable[..., Any]]] = {
    "gzip": gzip.open,
    "gz": gzip.open,
    "bz2": bz2.open,
    "xz": lzma.open,
    "lzma": lzma.open,
}


class Content(bytes):
    """Bytes that were read; they answer to the names of a memoryview and of an object store too."""

    def tobytes(self) -> bytes:
        """Return them as plain bytes."""
        return bytes(self)

    def to_bytes(self) -> bytes:
        """Return them as plain bytes."""
        return bytes(self)

    @property
    def nbytes(self) -> int:
        """How many they are."""
        return len(self)


class Watcher(Protocol):
    """What sees every byte that is written, in order."""

    def update(self, data: Any, /) -> None:
        """Take one more piece."""
        ...


class _Writer(io.RawIOBase):
    """The lowest layer of a file that is written; `keep` False: it is dropped when closed."""

    def __init__(self, watchers: Iterable[Watcher]) -> None:
        super().__init__()
        self.keep = True
        self._watchers = tuple(watchers)
        self._size_bytes = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size_bytes

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self._put(view)
        for watcher in self._watchers:
            watcher.update(view)
        self._size_bytes += len(view)
        return len(view)

    def _put(self, view: memoryview) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        if not self.closed:
            try:
                self._finish()
            finally:
                super().close()


class _LocalWriter(_Writer):
    def __init__(self, path: Path, watchers: Iterable[Watcher]) -> None:
        super().__init__(watchers)
        #: The bytes did not come in order, so no watcher can know them.
        self.jumped = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        # Only a name of ours is short enough for sure.
        self._part = path.with_name(f".{uuid.uuid4().hex}.part")
        self._file = self._part.open("wb", buffering=0)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        place = self._file.seek(offset, whence)
        self.jumped = self.jumped or place != self._size_bytes
        return place

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None, /) -> int:
        self.jumped = True
        return self._file.truncate(size)

    def _put(self, view: memoryview) -> None:
        while view:
            written = self._file.write(view)
            view = view[written or 0 :]

    def _finish(self) -> None:
        self._file.close()
        if self.keep:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


class _ObjectWriter(_Writer):
    def __init__(
        self, url: str, watchers: Iterable[Watcher], size_hint: int | None, floor: int | None
    ) -> None:
        super().__init__(watchers)
        self._object = write_object(url, size_hint, floor)

    def _put(self, view: memoryview) -> None:
        self._object.write(bytes(view))

    def _finish(self) -> None:
        if self.keep:
            self._object.close()


class _ObjectReader(io.RawIOBase):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._object = open_object(url)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._object.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._object.tell())

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        content = memoryview(self._object.read(len(view)))
        view[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._object.close()
        super().close()


class Opened:
    """One open file and what becomes of it."""

    def __init__(self, file: IO[Any], raw: _Writer | None = None) -> None:
        self.file = file
        self._raw = raw

    @property
    def in_order(self) -> bool:
        """Whether watchers saw the bytes as they lie in the file."""
        return not (isinstance(self._raw, _LocalWriter) and self._raw.jumped)

    def close(self, *, keep: bool = True) -> None:
        """Close the file; `keep` False drops what was written."""
        if self._raw is not None and not keep:
            self._raw.keep = False
        self.file.close()
        if self._raw is not None:
            self._raw.close()


def open_file(
    path: str,
    mode: str = "rb",
    *,
    compression: str | None = None,
    watchers: Iterable[Watcher] = (),
    size_hint: int | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    block_size: int | None = None,
) -> Opened:
    """Open a file in one of the modes of `open`.

    Args:
        path: Local, or the URL of an object.
        mode: `a`, `x` and `+` are for local files only.
        compression: `gzip`, `bz2`, `xz`, or `infer` from the name.
        watchers: See every byte that is written, with mode `w`.
        size_hint: Expected bytes, for the size of the parts of an upload.
        encoding: Of text.
        errors: Of text.
        newline: Of text.
        block_size: Bytes to read ahead or to gather before a write.

    Raises:
        FileNotFoundError: There is nothing to read.
        ValueError: A mode or compression that the place has not.
    """
    text = {"encoding": encoding, "errors": errors, "newline": newline}
    kind = _compression(path, compression)
    if is_remote(path) and set(mode) & set("ax+"):
        raise ValueError(f"an object can be opened to read or to write, not with mode {mode!r}")
    raw: _Writer | None = None
    inner: Any
    if "w" in mode and "+" not in mode:
        raw = (
            _ObjectWriter(path, watchers, size_hint, block_size)
            if is_remote(path)
            else _LocalWriter(local_path(path), watchers)
        )
        inner = io.BufferedWriter(raw, block_size or BUFFER_BYTES)
    elif is_remote(path):
        inner = io.BufferedReader(_ObjectReader(path), block_size or BUFFER_BYTES)
    elif kind:
        inner = local_path(path).open(mode.replace("t", "").replace("b", "") + "b")
    else:
        in_text: dict[str, Any] = text if "b" not in mode else {}
        return Opened(local_path(path).open(mode, **in_text))
    if kind:
        packed: Any = _COMPRESSED[kind](inner, mode.replace("t", "").replace("b", "") + "b")
        inner = _Both(packed, inner)
    if "b" not in mode:
        inner = io.TextIOWrapper(inner, **cast("dict[str, Any]", text))
    return Opened(inner, raw)


class _Both(io.BufferedIOBase):
    """A compressed stream that closes what it lies on."""

    def __init__(self, packed: Any, below: Any) -> None:
        super().__init__()
        self._packed = packed
        self._below = below

    def readable(self) -> bool:
        return bool(self._packed.readable())

    def writable(self) -> bool:
        return bool(self._packed.writable())

    def read(self, size: int | None = -1, /) -> bytes:
        return cast("bytes", self._packed.read(-1 if size is None else size))

    def read1(self, size: int = -1, /) -> bytes:
        return cast("bytes", self._packed.read1(size))

    def readline(self, size: int | None = -1, /) -> bytes:
        return cast("bytes", self._packed.readline(-1 if size is None else size))

    def write(self, data: Any, /) -> int:
        return int(self._packed.write(data))

    def close(self) -> None:
        if not self.closed:
            self._packed.close()
            self._below.close()
        super().close()


def _compression(path: str, asked: str | None) -> str:
    if asked == "infer":
        return {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}.get(Path(path).suffix, "")
    if asked and asked not in _COMPRESSED:
        raise ValueError(f"compression must be one of {[*_COMPRESSED, 'infer']}, not {asked!r}")
    return asked or ""


@contextlib.contextmanager
def closing(held: Opened) -> Generator[IO[Any], None, None]:
    """Close a file at the end of a `with`; what was written is dropped when that fails."""
    try:
        yield held.file
    except BaseException:
        held.close(keep=False)
        raise
    held.close()


class AsyncFile:
    """An open file whose calls wait in a thread, not on the event loop."""

    def __init__(self, held: Opened) -> None:
        self._held = held
        self._file = held.file

    async def read(self, size: int | None = -1, /) -> Any:
        """Read up to `size` bytes (all by default), or characters of a text file."""
        return _content(await asyncio.to_thread(self._file.read, -1 if size is None else size))

    async def readall(self) -> Any:
        """Read all that is left."""
        return await self.read()

    async def readline(self, size: int = -1, /) -> Any:
        """Read one line, with its end."""
        return _content(await asyncio.to_thread(self._file.readline, size))

    async def readlines(self, hint: int = -1, /) -> list[Any]:
        """Read all lines, or about `hint` bytes of them."""
        return await asyncio.to_thread(self._file.readlines, hint)

    async def readinto(self, buffer: Any, /) -> int:
        """Read into `buffer`, and return how many bytes came."""
        return cast("int", await asyncio.to_thread(cast("Any", self._file).readinto, buffer))

    async def write(self, data: Any, /) -> int:
        """Write bytes, or text to a text file."""
        return await asyncio.to_thread(self._file.write, data)

    async def writelines(self, lines: Iterable[Any], /) -> None:
        """Write every line as it is."""
        await asyncio.to_thread(self._file.writelines, list(lines))

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go elsewhere."""
        return await asyncio.to_thread(self._file.seek, offset, whence)

    async def tell(self) -> int:
        """Return where the next read or write takes place."""
        return await asyncio.to_thread(self._file.tell)

    async def truncate(self, size: int | None = None, /) -> int:
        """Cut the file."""
        return await asyncio.to_thread(self._file.truncate, size)

    async def flush(self) -> None:
        """Pass on what is gathered."""
        await asyncio.to_thread(self._file.flush)

    async def close(self, *, keep: bool = True) -> None:
        """Close the file; `keep` False drops what was written."""
        await asyncio.to_thread(lambda: self._held.close(keep=keep))

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._file.closed

    @property
    def mode(self) -> str:
        """Mode of the file below."""
        return getattr(self._file, "mode", "rb")

    @property
    def name(self) -> Any:
        """Name of the file below."""
        return getattr(self._file, "name", "")

    def readable(self) -> bool:
        """Say whether it can be read."""
        return self._file.readable()

    def writable(self) -> bool:
        """Say whether it can be written."""
        return self._file.writable()

    def seekable(self) -> bool:
        """Say whether one can go elsewhere in it."""
        return self._file.seekable()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while line := await self.readline():
            yield line

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        await self.close(keep=kind is None)


def _content(read: Any) -> Any:
    return Content(read) if isinstance(read, bytes) else read
