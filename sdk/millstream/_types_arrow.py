"""Codecs of Arrow tables and batches; imported once pyarrow is."""

import importlib
from typing import Any

from millstream._values_codecs import Site, register

# Any: what the library says of its types differs from version to version.
pa: Any = importlib.import_module("pyarrow")


def write_ipc(table: Any) -> bytes:
    """Return a table or batch as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return bytes(sink.getvalue())


def read_ipc(content: bytes) -> Any:
    """Return the table of an Arrow stream."""
    with pa.ipc.open_stream(content) as reader:
        return reader.read_all()


class TableCodec:
    """Tables, with their chunks and the metadata of their schema."""

    name = "pyarrow.Table"
    cls = pa.Table

    def encode(self, value: Any, site: Site) -> object:
        """Return size and stream."""
        content = write_ipc(value)
        site.aside(len(content))
        return {"rows": value.num_rows, "columns": value.column_names, "ipc": content}

    def decode(self, record: Any, site: Site) -> object:
        """Return the table."""
        return read_ipc(record["ipc"])


class BatchCodec:
    """Record batches."""

    name = "pyarrow.RecordBatch"
    cls = pa.RecordBatch

    def encode(self, value: Any, site: Site) -> object:
        """Return size and stream."""
        content = write_ipc(value)
        site.aside(len(content))
        return {"rows": value.num_rows, "columns": value.schema.names, "ipc": content}

    def decode(self, record: Any, site: Site) -> object:
        """Return the batch."""
        with pa.ipc.open_stream(record["ipc"]) as reader:
            return reader.read_next_batch()


register(TableCodec())
register(BatchCodec())
