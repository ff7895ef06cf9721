"""Pickle as the last resort, with the cures that classes of a script's own file need.

cloudpickle sends what `__main__` defines by value, so that what comes back would be an
instance of a copy of the class. Here such a class is looked up by name first: worker and
parent load the same script, and `except MyError` must hold. The copy serves only where the name
is not there (a notebook's class, say).

Unpickling runs code: this module belongs into task processes only.
"""

import builtins
import copyreg
import dataclasses
import hashlib
import io
import pickle
import sys
import types
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import cloudpickle

from millstream._annotations import resolved_annotations
from millstream._cells import ANY_CELL, Cell, cell_of, restore_code
from millstream.errors import BaseRuntimeError

#: Names that a script's own file goes by: at its start, and in a worker.
MAIN_MODULES: Final = ("__main__", "__mp_main__")

_DIGEST_BYTES: Final = 16
_E = TypeVar("_E", bound=BaseException)


def _missing_name(_: object) -> str:
    # `dataclasses.MISSING` is compared by identity, so a copied class must find the original.
    return "MISSING"


copyreg.pickle(type(dataclasses.MISSING), _missing_name)


def main_class(module: str, qualname: str, copy: bytes) -> type:
    """Return the class of that name from this process's own script, or else the sent copy."""
    for name in (module, *MAIN_MODULES):
        found: object = sys.modules.get(name)
        for part in qualname.split("."):
            found = getattr(found, part, None)
        if isinstance(found, type) and found.__module__ in MAIN_MODULES:
            return found
    if not copy:
        raise pickle.UnpicklingError(f"no class {qualname} in {module}")
    return cast("type", pickle.loads(copy))


# ------------------------------------------------------------------ exceptions


def blank_exception(cls: type[_E], args: tuple[object, ...]) -> _E:
    """Return an instance of `cls` with these `args`, without calling an `__init__` of Python's.

    The nearest built-in class is initialised, since it may keep `args` in fields of its own
    (`OSError.errno`, `UnicodeError.start`).
    """
    try:
        exc = cls.__new__(cls, *args)
    except TypeError:
        exc = cls.__new__(cls)
    native = next(base for base in cls.__mro__ if base.__module__ == builtins.__name__)
    try:
        native.__init__(exc, *args)  # type: ignore[misc] # a class known to be an exception's
    except TypeError:
        exc.args = args
    return exc


def fill_exception(exc: BaseException, state: dict[str, object]) -> None:
    """Give a restored exception its attributes and causes."""
    exc.__dict__.update(cast("dict[str, object]", state["attributes"]))
    for name, value in cast("dict[str, object]", state["fields"]).items():
        setattr(exc, name, value)
    exc.__cause__ = cast("BaseException | None", state["cause"])
    exc.__context__ = cast("BaseException | None", state["context"])
    exc.__suppress_context__ = bool(state["suppress"])


def exception_args(exc: BaseException) -> tuple[object, ...]:
    """Return the arguments that rebuild `exc`: `OSError` keeps a file name apart from `args`."""
    if isinstance(exc, OSError):
        return cast("tuple[object, ...]", OSError.__reduce__(exc)[1])
    return exc.args


def exception_state(exc: BaseException, *, causes: bool = True) -> dict[str, object]:
    """Return what `fill_exception` takes: attributes (notes among them) and causes."""
    fields: dict[str, object] = {}
    if isinstance(exc, ImportError | NameError | AttributeError):
        names = ("name", "path") if isinstance(exc, ImportError) else ("name",)
        fields = {name: getattr(exc, name) for name in names if getattr(exc, name) is not None}
    context = None if exc.__suppress_context__ else exc.__context__
    return {
        "attributes": dict(exc.__dict__),
        "fields": fields,
        "cause": exc.__cause__ if causes else None,
        "context": context if causes else None,
        "suppress": exc.__suppress_context__,
    }


def _reduces_itself(cls: type) -> bool:
    """Say whether an exception class brings a `__reduce__` of its own."""
    reduce = cls.__reduce__
    return isinstance(reduce, types.FunctionType) and reduce is not BaseRuntimeError.__reduce__


# ------------------------------------------------------------------ pickling


if TYPE_CHECKING:

    class _CloudPickler(pickle.Pickler):
        """What cloudpickle, which ships no types, adds to the pickler."""

        dispatch_table: Any

        def reducer_override(self, obj: object, /) -> Any: ...

else:
    _CloudPickler = cloudpickle.Pickler


#: Attribute of a function that is made again where its pickle is read: `(itself, maker, args)`.
MADE_AGAIN: Final = "__millstream_made_again__"
#: What cloudpickle puts in place of a file's name.
_HIDDEN_FILE: Final = "<dynamic-code>"


class _CodePickler(_CloudPickler):
    """cloudpickle, with the source of what is written in cells."""

    def __init__(self, file: io.BytesIO, *, copies: bool) -> None:
        super().__init__(file)
        self._copies = copies
        #: One object for each cell, so that its source is in the pickle once.
        self._cells: dict[str, Cell | None] = {}
        #: True once a class of the script or code of a cell was met: only then is the pickle
        #: not the same in every process (cloudpickle gives each copied class a random id).
        self.met_main = False

    def reducer_override(self, obj: object, /) -> Any:
        """Return how to rebuild `obj`, or NotImplemented for the usual way."""
        if isinstance(obj, types.CodeType):
            cell = self._cell_of(obj.co_filename)
            if cell is not None:
                self.met_main = True
                name, source = cell if self._copies else (ANY_CELL, "")
                _, parts = self._parts_of(obj.replace(co_filename=name))
                return restore_code, (source, parts)
            return self._parts_of(obj)
        reduced: Any = super().reducer_override(obj)
        if isinstance(obj, types.FunctionType) and reduced is not NotImplemented:
            _resolve(obj, reduced)
            made: Any = obj.__dict__.get(MADE_AGAIN)
            # `functools.wraps` copies the attribute to a function around this one.
            if made is not None and made[0] is obj:
                return made[1:]
        return reduced

    def _parts_of(self, code: types.CodeType) -> tuple[Any, tuple[object, ...]]:
        """Return how cloudpickle rebuilds `code`, with the name of its file.

        From 3.1.3 on cloudpickle leaves the name out; without it there are no lines in
        tracebacks, and no source to make the task's identity of.
        """
        make, parts = self.dispatch_table[types.CodeType](code)
        named = (code.co_filename if part == _HIDDEN_FILE else part for part in parts)
        return make, tuple(named)

    def _cell_of(self, filename: str) -> Cell | None:
        if filename not in self._cells:
            self._cells[filename] = cell_of(filename)
        return self._cells[filename]


def _resolve(function: types.FunctionType, reduced: tuple[Any, ...]) -> None:
    """Put classes in place of annotations that are written as text (PEP 563).

    Only the globals that the code uses travel with a function; its annotations name others.
    """
    if not any(isinstance(each, str) for each in function.__annotations__.values()):
        return
    try:
        found = resolved_annotations(function)
    # What a name stands for is the user's code. The text remains, and is an error when it is used.
    except Exception:  # noqa: BLE001
        return
    _, attributes = reduced[2]
    attributes["__annotations__"] = found


class _Pickler(_CodePickler):
    """cloudpickle, with exceptions and the script's classes taken apart as above."""

    def reducer_override(self, obj: object, /) -> Any:
        """Return how to rebuild `obj`, or NotImplemented for the usual way."""
        if isinstance(obj, BaseException) and not _reduces_itself(type(obj)):
            made = (type(obj), exception_args(obj))
            return blank_exception, made, exception_state(obj), None, None, fill_exception
        if isinstance(obj, type) and obj.__module__ in MAIN_MODULES:
            self.met_main = True
            copy = _copy_of(obj) if self._copies else b""
            return main_class, (obj.__module__, obj.__qualname__, copy)
        return super().reducer_override(obj)


def _copy_of(cls: type) -> bytes:
    try:
        file = io.BytesIO()
        _CodePickler(file, copies=True).dump(cls)
        return file.getvalue()
    # The class holds something like a lock: it is found by its name, or not at all.
    except Exception:  # noqa: BLE001
        return b""


def _dump(value: object, *, copies: bool) -> tuple[bytes, bool]:
    file = io.BytesIO()
    pickler = _Pickler(file, copies=copies)
    pickler.dump(value)
    return file.getvalue(), pickler.met_main


def dump(value: object) -> tuple[bytes, bytes]:
    """Return a digest of `value` that is the same in every process, and the pickle.

    Raises:
        Exception: Of any class, since pickle calls the value's own code; the caller maps it.
    """
    content, met_main = _dump(value, copies=True)
    named = _dump(value, copies=False)[0] if met_main else content
    return hashlib.blake2b(named, digest_size=_DIGEST_BYTES).digest(), content


def load(content: bytes) -> object:
    """Return what `dump` took.

    Raises:
        Exception: Of any class; the caller maps it.
    """
    return pickle.loads(content)
