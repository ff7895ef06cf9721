"""Hashes that are taken while bytes stream by, where Flyte programs import them from."""

from millstream._io_hashing import (
    AsyncHashingReader,
    AsyncHashingWriter,
    HashFunction,
    HashingReader,
    HashingWriter,
    HashlibAccumulator,
    HashMethod,
    PrecomputedValue,
)

__all__ = [
    "AsyncHashingReader",
    "AsyncHashingWriter",
    "HashFunction",
    "HashMethod",
    "HashingReader",
    "HashingWriter",
    "HashlibAccumulator",
    "PrecomputedValue",
]
