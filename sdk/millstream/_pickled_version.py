"""The cache version of a task that travels by value: of a notebook, or declared in a function.

A pickle's own bytes will not do: they name lines and files, and differ from process to process
once a class is in them. So what travels is hashed by its code, helpers and plain globals
included: an edit of any of them is a new version, running a cell again is not.
"""

import ast
import inspect
import textwrap
from types import FunctionType
from typing import Any, Final

from millstream._bundle import used_by
from millstream._identity import body_hash
from millstream._pickling import MAIN_MODULES
from millstream._values import hash_bytes

_PLAIN: Final = (bool, int, float, complex, str, bytes, type(None))
_VERSION_BYTES: Final = 32


def pickled_version(function: object) -> str:
    """Return a hash of a function and of what travels with it, in hexadecimal digits."""
    parts: list[bytes] = []
    pending: list[Any] = [function]
    seen: set[int] = set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, type):
            parts.append(_class_source(value))
            continue
        parts.append(body_hash(value))
        for name, used in sorted(used_by(value).items()):
            inner = getattr(used, "func", used)
            if isinstance(inner, FunctionType | type) and _travels(inner):
                pending.append(inner)
            parts.append(f"{name}={_shown(inner)}".encode())
    return hash_bytes(parts, size=_VERSION_BYTES).hex()


def _travels(value: FunctionType | type) -> bool:
    return value.__module__ in MAIN_MODULES or "<locals>" in value.__qualname__


def _shown(value: object) -> str:
    if isinstance(value, _PLAIN):
        return repr(value)
    cls = value if isinstance(value, type | FunctionType) else type(value)
    return f"{cls.__module__}.{cls.__qualname__}"


def _class_source(cls: type) -> bytes:
    try:
        return ast.dump(ast.parse(textwrap.dedent(inspect.getsource(cls)))).encode()
    except (OSError, TypeError, SyntaxError):
        return cls.__qualname__.encode()
