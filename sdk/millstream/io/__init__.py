"""Files, folders and tables as inputs and outputs of tasks.

A `File`, `Dir` or `DataFrame` travels as the place where its content lies; handing one on
copies nothing. The content lies under the raw data path of the run: a local folder, or a prefix
of an object store.
"""

from millstream._io_codecs import NativeFrameCodec as _NativeFrameCodec
from millstream._io_dir import Dir, EmptyDir
from millstream._io_file import File
from millstream._io_frame import DataFrame
from millstream._io_frame_formats import PARQUET
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

# Registers how they travel.
_ = _NativeFrameCodec

__all__ = [
    "PARQUET",
    "AsyncHashingReader",
    "AsyncHashingWriter",
    "DataFrame",
    "Dir",
    "EmptyDir",
    "File",
    "HashFunction",
    "HashMethod",
    "HashingReader",
    "HashingWriter",
    "HashlibAccumulator",
    "PrecomputedValue",
]
