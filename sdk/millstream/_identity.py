"""Which task a call means: hashes that stay the same until name, interface or body change.

Not the image, not the bundle, not what the body calls: a fixed helper function does not give
every child of a run a new id. All are the same in every process.
"""

import ast
import functools
import inspect
import textwrap
import types
from collections.abc import Callable, MutableMapping
from typing import Final, cast
from weakref import WeakKeyDictionary

from millstream._interface import Interface
from millstream._values import hash_bytes
from millstream_events.ids import ActionId, child_id

_BODY_BYTES: Final = 32
_IDENTITY_BYTES: Final = 16

#: Decorators of ours, by the last part of their name. What they are given (retries, a cache, a
#: timeout) says how to run the function, not what it does.
_OUR_DECORATORS: Final = frozenset({"task", "trace"})

#: Hashes of functions that came with a pickled task.
_told: Final[WeakKeyDictionary[Callable[..., object], bytes]] = WeakKeyDictionary()
#: Counts of identical calls of one parent, by task identity, inputs hash and group.
Counters = MutableMapping[tuple[bytes, bytes, str], int]


def body_hash(func: Callable[..., object]) -> bytes:
    """Return 32 bytes that change when the function's code does; computed once for each.

    Comments, formatting and our own decorators do not count; the docstring does. Without its
    source (a REPL, `exec`), the compiled code stands in, which differs between Python versions.
    """
    try:
        return _known_body_hash(func)
    except TypeError:  # a callable object that cannot be hashed
        return _body_hash(func)


def remember_body(func: Callable[..., object], known: bytes) -> None:
    """Take the body's hash from where `func` comes from: a pickle need not name its source."""
    _told[func] = known


def _body_hash(func: Callable[..., object]) -> bytes:
    func = inspect.unwrap(func)
    if isinstance(func, types.FunctionType) and func in _told:
        return _told[func]
    if isinstance(func, functools.partial):
        bound = repr((func.args, sorted(func.keywords.items()))).encode()
        return hash_bytes([body_hash(func.func), bound], size=_BODY_BYTES)
    tree = _syntax_of(func)
    if tree is not None:
        return hash_bytes([b"ast", ast.dump(tree).encode()], size=_BODY_BYTES)
    code = getattr(func, "__code__", None)
    if isinstance(code, types.CodeType):
        return hash_bytes([b"code", *_code_parts(code)], size=_BODY_BYTES)
    cls = type(func)
    name = getattr(func, "__qualname__", f"{cls.__module__}.{cls.__qualname__}")
    return hash_bytes([b"name", name.encode()], size=_BODY_BYTES)


_known_body_hash: Final = functools.lru_cache(maxsize=4096)(_body_hash)


def _syntax_of(func: Callable[..., object]) -> ast.AST | None:
    """Return the function's own definition; None when its source is not there."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(func)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    # The source of a lambda is the whole statement around it, which may hold several.
    if not tree.body or not isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    definition = tree.body[0]
    definition.decorator_list = [d for d in definition.decorator_list if not _is_ours(d)]
    return definition


def _is_ours(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(called, ast.Attribute):
        return called.attr in _OUR_DECORATORS
    return isinstance(called, ast.Name) and called.id in _OUR_DECORATORS


def _code_parts(code: types.CodeType) -> list[bytes]:
    parts = [code.co_code, repr(code.co_names).encode(), repr(code.co_varnames).encode()]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            parts.extend(_code_parts(constant))
        elif isinstance(constant, frozenset):  # its order differs between processes
            members = sorted(map(repr, cast("frozenset[object]", constant)))
            parts.append(repr(members).encode())
        else:
            parts.append(repr(constant).encode())
    return parts


def task_identity(name: str, interface: Interface, func: Callable[..., object]) -> bytes:
    """Return the 16 bytes that stand for a task in ids of its calls."""
    return hash_bytes([name.encode(), interface.digest, body_hash(func)], size=_IDENTITY_BYTES)


def call_id(
    parent: ActionId, identity: bytes, inputs_hash: bytes, group: str, counters: Counters
) -> tuple[ActionId, int]:
    """Return the id of a call and how many identical ones came before, and count it."""
    key = (identity, inputs_hash, group)
    k = counters.get(key, 0)
    counters[key] = k + 1
    made = child_id(parent, task_identity=identity, inputs_hash=inputs_hash, group=group, k=k)
    return made, k
