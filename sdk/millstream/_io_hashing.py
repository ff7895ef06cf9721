"""Hashes of content: what stands for a file, a directory or a frame in the key of a cache.

A `HashMethod` is fed while bytes are written or read, so a large file is hashed in one pass.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast, runtime_checkable


@runtime_checkable
class HashMethod(Protocol):
    """What takes content piece by piece and says its hash at the end."""

    def update(self, data: Any, /) -> None:
        """Take one more piece."""
        ...

    def result(self) -> str:
        """Return the hash of all that came."""
        ...

    def reset(self) -> None:
        """Start over; optional."""
        ...


class HashFunction(HashMethod):
    """A hash method made of a function that takes the whole content at once.

    Of content that comes in pieces it says the hash of the last piece: for files prefer
    `HashlibAccumulator`, for frames and other objects this.
    """

    def __init__(self, fn: Callable[[Any], str]) -> None:
        self._fn = fn
        self._value = ""

    @classmethod
    def from_fn(cls, fn: Callable[[Any], str]) -> "HashFunction":
        """Return the hash method that applies `fn`."""
        return cls(fn)

    def update(self, data: Any, /) -> None:
        """Hash `data`, forgetting what came before."""
        self._value = self._fn(data)

    def result(self) -> str:
        """Return what the function gave last."""
        return self._value


class PrecomputedValue(HashMethod):
    """A hash that is known already; content is not looked at."""

    def __init__(self, value: str) -> None:
        self._value = value

    def update(self, data: Any, /) -> None:
        """Do nothing."""

    def result(self) -> str:
        """Return the known hash."""
        return self._value


class _Hashlib(Protocol):
    def update(self, data: Any, /) -> None: ...

    def hexdigest(self) -> str: ...


class HashlibAccumulator(HashMethod):
    """A hash method made of an object of `hashlib`; its result is the hex digest."""

    def __init__(self, h: _Hashlib) -> None:
        self._h = h

    @classmethod
    def from_hash_name(cls, name: str) -> "HashlibAccumulator":
        """Return the accumulator of an algorithm of `hashlib`, such as `sha256`.

        Raises:
            ValueError: There is no such algorithm.
        """
        return cls(hashlib.new(name))

    def update(self, data: Any, /) -> None:
        """Take one more piece."""
        self._h.update(data)

    def result(self) -> str:
        """Return the hex digest of all that came."""
        return self._h.hexdigest()


class _Hashing:
    """An open file whose content passes by a hash method. Text is hashed as it is encoded."""

    def __init__(
        self,
        fh: Any,
        accumulator: HashMethod,
        *,
        encoding: str | None = None,
        errors: str = "strict",
    ) -> None:
        self._fh = fh
        self._acc = accumulator
        self._encoding: str = encoding or getattr(fh, "encoding", None) or "utf-8"
        self._errors = errors

    def result(self) -> str:
        """Return the hash of what passed by so far."""
        return self._acc.result()

    def _take(self, data: Any) -> Any:
        if data is not None:
            raw = data.encode(self._encoding, self._errors) if isinstance(data, str) else data
            view = memoryview(raw)
            if view.nbytes:
                self._acc.update(view)
        return data

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._fh, name)


class HashingWriter(_Hashing):
    """A file opened for writing; what is written is hashed."""

    def write(self, data: Any) -> Any:
        """Hash and write one piece."""
        self._take(data)
        return self._fh.write(data)

    def writelines(self, lines: Iterable[Any]) -> None:
        """Hash and write every line."""
        for line in lines:
            self.write(line)

    def flush(self) -> Any:
        """Flush the file."""
        return self._fh.flush()

    def close(self) -> Any:
        """Close the file."""
        return self._fh.close()


class HashingReader(_Hashing):
    """A file opened for reading; what is read is hashed."""

    def read(self, size: int = -1) -> Any:
        """Read and hash up to `size` bytes or characters; all of them by default."""
        return self._take(self._fh.read(size))

    def readline(self, size: int = -1) -> Any:
        """Read and hash one line."""
        return self._take(self._fh.readline(size))

    def readlines(self, hint: int = -1) -> list[Any]:
        """Read and hash lines."""
        lines = cast("list[Any]", self._fh.readlines(hint))
        for line in lines:
            self._take(line)
        return lines

    def __iter__(self) -> "HashingReader":
        return self

    def __next__(self) -> Any:
        return self._take(next(self._fh))


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


class AsyncHashingWriter(_Hashing):
    """A file opened for writing on an event loop; what is written is hashed."""

    async def write(self, data: Any) -> Any:
        """Hash and write one piece."""
        self._take(data)
        return await self._fh.write(data)

    async def writelines(self, lines: Iterable[Any]) -> None:
        """Hash and write every line."""
        for line in lines:
            await self.write(line)

    async def flush(self) -> Any:
        """Flush the file, where it can be."""
        flush = getattr(self._fh, "flush", None)
        return None if flush is None else await _awaited(flush())

    async def close(self) -> Any:
        """Close the file, where it can be."""
        close = getattr(self._fh, "close", None)
        return None if close is None else await _awaited(close())


class AsyncHashingReader(_Hashing):
    """A file opened for reading on an event loop; what is read is hashed."""

    async def read(self, size: int = -1) -> Any:
        """Read and hash up to `size` bytes or characters; all of them by default."""
        return self._take(await self._fh.read(size))

    async def readline(self, size: int = -1) -> Any:
        """Read and hash one line."""
        return self._take(await self._fh.readline(size))

    async def readlines(self, hint: int = -1) -> list[Any]:
        """Read and hash all lines; with a `hint`, about so many bytes of them."""
        lines = [line async for line in self] if hint < 0 else await self._fh.readlines(hint)
        if hint >= 0:
            for line in lines:
                self._take(line)
        return cast("list[Any]", lines)

    def __aiter__(self) -> "AsyncHashingReader":
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def flush(self) -> Any:
        """Flush the file, where it can be."""
        flush = getattr(self._fh, "flush", None)
        return None if flush is None else await _awaited(flush())

    async def close(self) -> Any:
        """Close the file, where it can be."""
        close = getattr(self._fh, "close", None)
        return None if close is None else await _awaited(close())
