"""Codecs of numpy arrays and scalars; imported once numpy is."""

import importlib
import io
from typing import Any

from millstream._values_codecs import Site, register

# Any: what the library says of its types differs from version to version.
np: Any = importlib.import_module("numpy")


class ArrayCodec:
    """Arrays as numpy's own `.npy`; those of objects item by item."""

    name = "numpy.ndarray"
    cls = np.ndarray

    def encode(self, value: Any, site: Site) -> object:
        """Return the bytes of an array, or shape and items."""
        if value.dtype.hasobject:
            if value.dtype != object:
                return NotImplemented
            return {"shape": value.shape, "items": value.ravel().tolist()}
        file = io.BytesIO()
        np.save(file, value, allow_pickle=False)
        site.aside(file.getbuffer().nbytes)
        return {"dtype": str(value.dtype), "shape": value.shape, "npy": file.getvalue()}

    def decode(self, record: Any, site: Site) -> object:
        """Return an array that may be written to."""
        if "npy" in record:
            return np.load(io.BytesIO(record["npy"]), allow_pickle=False)
        array = np.empty(len(record["items"]), dtype=object)
        for index, item in enumerate(record["items"]):
            array[index] = item
        return array.reshape(record["shape"])


class ScalarCodec:
    """Scalars of any dtype as their bytes."""

    name = "numpy.generic"
    cls = np.generic
    subclasses = True
    keeps_class = True

    def encode(self, value: Any, site: Site) -> object:
        """Return dtype and bytes."""
        if value.dtype.hasobject or value.dtype.names is not None:
            return NotImplemented
        return (value.dtype.str, value.tobytes())

    def decode(self, record: Any, site: Site) -> object:
        """Return the scalar."""
        dtype, content = record
        if not np.dtype(dtype).itemsize:
            return np.dtype(dtype).type()
        return np.frombuffer(content, dtype=dtype)[0]


register(ArrayCodec())
register(ScalarCodec())
