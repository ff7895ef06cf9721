"""Whether a function's own code speaks of what only an action has. Nothing is run.

Many items of a `map` share one action, and code that turns out to need one of its own runs again
from its beginning. This looks ahead, so that it seldom comes to that: at what the function, and
the functions of the same program that it names, load from their modules and closures. What it
misses (names that are made up at run time) is found when it is asked for.
"""

import dis
import functools
import inspect
import logging
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

#: Functions and classes looked at for one task; a program that names more is taken as it is.
_LOOKED_AT_MAX: Final = 500
_LOADS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"})
_ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
#: Of ours, and harmless.
_HARMLESS: Final = ("millstream.errors", "millstream._errors_roots", "millstream._errors_devices")
_OURS: Final = str(Path(__file__).parent) + "/"
#: Whose code is not looked into: it knows nothing of actions, or it was known by its name.
_FOREIGN: Final = (
    _OURS,
    *(str(Path(sysconfig.get_path(name))) + "/" for name in ("stdlib", "purelib", "platlib")),
)


def needs_action(function: Callable[..., Any]) -> bool:
    """Say whether the code of `function` names a task, a trace, `ctx()` or the like of ours."""
    try:
        return _needs_action(function)
    except TypeError:  # It cannot be hashed.
        return _needs_action.__wrapped__(function)


@functools.lru_cache(maxsize=1024)
def _needs_action(function: Callable[..., Any]) -> bool:
    seen: set[int] = {id(function)}
    pending: list[object] = [function]
    while pending:
        for named in _named_by(pending.pop()):
            if id(named) in seen:
                continue
            seen.add(id(named))
            if _is_ours(named):
                return True
            if len(seen) < _LOOKED_AT_MAX and _is_of_program(named):
                pending.append(named)
    return False


def _named_by(looked_at: object) -> Iterator[object]:
    """Yield what a function loads, or the functions of a class."""
    if isinstance(looked_at, type):
        yield from (each for each in vars(looked_at).values() if callable(each))
        return
    function = inspect.unwrap(looked_at) if callable(looked_at) else looked_at
    while isinstance(function, functools.partial):
        yield from (*function.args, *function.keywords.values())
        function = function.func
    if isinstance(function, types.FunctionType):
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        known = {**function.__globals__, **dict(_filled(cells))}
        yield from _loaded(function.__code__, known)


def _filled(cells: "zip[tuple[str, types.CellType]]") -> Iterator[tuple[str, object]]:
    for name, cell in cells:
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue  # Not assigned yet.


def _loaded(code: types.CodeType, known: dict[str, object]) -> Iterator[object]:
    """Yield what the code loads by name; of a module, the attribute that it goes on to load."""
    found: object = None
    for step in dis.get_instructions(code):
        if isinstance(found, types.ModuleType):
            # What a module of ours has not loaded yet is ours all the same.
            inner = vars(found).get(step.argval, found if _is_ours(found) else None)
            if step.opname in _ATTRIBUTES and inner is not found:
                found = inner
                continue
            yield found
        elif found is not None:
            yield found
        found = known.get(step.argval) if step.opname in _LOADS else None
        if step.opname == "IMPORT_NAME":
            found = sys.modules.get(step.argval) or types.ModuleType(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _loaded(constant, known)


def _is_ours(named: object) -> bool:
    if isinstance(named, logging.Logger):
        return False
    if isinstance(named, types.ModuleType):
        return named.__name__.split(".")[0] == "millstream" and named.__name__ not in _HARMLESS
    if isinstance(named, types.FunctionType):
        return named.__code__.co_filename.startswith(_OURS)
    kind = named if isinstance(named, type) else type(named)
    return kind.__module__.split(".")[0] == "millstream" and kind.__module__ not in _HARMLESS


def _is_of_program(named: object) -> bool:
    """Say whether it is code that its user wrote, as far as can be told."""
    if isinstance(named, functools.partial):
        return True
    code = getattr(inspect.unwrap(named) if callable(named) else None, "__code__", None)
    if isinstance(code, types.CodeType):
        return not code.co_filename.startswith((*_FOREIGN, "<"))
    module = inspect.getmodule(named) if isinstance(named, type) else None
    file = getattr(module, "__file__", None) or ""
    return file != "" and not file.startswith(_FOREIGN)
