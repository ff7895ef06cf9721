"""Hash methods, and files that are hashed as they pass."""

import hashlib
import io

import pytest

from millstream.io import (
    AsyncHashingReader,
    AsyncHashingWriter,
    HashFunction,
    HashingReader,
    HashingWriter,
    HashlibAccumulator,
    HashMethod,
    PrecomputedValue,
)

TEXT = "one\ntwö\nthree"
BYTES = TEXT.encode()


def sha() -> HashlibAccumulator:
    return HashlibAccumulator.from_hash_name("sha256")


class Awaited:
    """A file whose calls are awaited."""

    def __init__(self, inner: io.IOBase) -> None:
        self.inner = inner

    async def read(self, size: int = -1) -> bytes:
        return self.inner.read(size)  # type: ignore[no-any-return,attr-defined]

    async def readline(self, size: int = -1) -> bytes:
        return self.inner.readline(size)

    async def write(self, data: bytes) -> int:
        return self.inner.write(data)  # type: ignore[no-any-return,attr-defined]

    def flush(self) -> None:
        self.inner.flush()

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (HashFunction.from_fn(lambda data: hashlib.md5(data).hexdigest()), hashlib.md5(BYTES)),
        (sha(), hashlib.sha256(BYTES)),
        (HashlibAccumulator(hashlib.blake2b()), hashlib.blake2b(BYTES)),
    ],
)
def test_a_method_hashes_what_it_is_given(method: HashMethod, expected: object) -> None:
    method.update(BYTES)
    assert method.result() == expected.hexdigest()  # type: ignore[attr-defined]
    assert isinstance(method, HashMethod)


def test_a_known_hash_looks_at_nothing() -> None:
    method = PrecomputedValue("known")
    method.update(b"anything")
    assert method.result() == "known"


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="zap"):
        HashlibAccumulator.from_hash_name("zap")


@pytest.mark.parametrize("how", ["write", "writelines"])
def test_what_is_written_is_hashed(how: str) -> None:
    inner = io.BytesIO()
    writer = HashingWriter(inner, sha())
    if how == "write":
        writer.write(BYTES[:5])
        writer.write(BYTES[5:])
    else:
        writer.writelines([BYTES[:5], BYTES[5:]])
    assert writer.result() == hashlib.sha256(BYTES).hexdigest()
    assert inner.getvalue() == writer.getvalue() == BYTES


def test_text_is_hashed_as_it_is_encoded() -> None:
    writer = HashingWriter(io.StringIO(), sha(), encoding="utf-16")
    writer.write(TEXT)
    assert writer.result() == hashlib.sha256(TEXT.encode("utf-16")).hexdigest()


@pytest.mark.parametrize("how", ["read", "pieces", "readline", "readlines", "iterate"])
def test_what_is_read_is_hashed(how: str) -> None:
    reader = HashingReader(io.BytesIO(BYTES), sha())
    if how == "read":
        assert reader.read() == BYTES
    elif how == "pieces":
        while reader.read(3):
            pass
    elif how == "readline":
        while reader.readline():
            pass
    elif how == "readlines":
        assert len(reader.readlines()) == 3
    else:
        assert b"".join(reader) == BYTES
    assert reader.result() == hashlib.sha256(BYTES).hexdigest()


@pytest.mark.parametrize("how", ["read", "readline", "readlines", "iterate"])
async def test_what_is_read_awaited_is_hashed(how: str) -> None:
    reader = AsyncHashingReader(Awaited(io.BytesIO(BYTES)), sha())
    if how == "read":
        assert await reader.read() == BYTES
    elif how == "readline":
        while await reader.readline():
            pass
    elif how == "readlines":
        assert len(await reader.readlines()) == 3
    else:
        assert b"".join([line async for line in reader]) == BYTES
    assert reader.result() == hashlib.sha256(BYTES).hexdigest()
    await reader.flush()
    await reader.close()


async def test_what_is_written_awaited_is_hashed() -> None:
    inner = io.BytesIO()
    writer = AsyncHashingWriter(Awaited(inner), sha())
    await writer.write(BYTES[:5])
    await writer.writelines([BYTES[5:]])
    await writer.flush()
    await writer.close()
    assert writer.result() == hashlib.sha256(BYTES).hexdigest()
    assert inner.getvalue() == BYTES


def test_private_names_are_not_looked_up_below() -> None:
    reader = HashingReader(io.BytesIO(), sha())
    assert reader.seekable()
    with pytest.raises(AttributeError):
        reader._checkReadable  # noqa: B018
