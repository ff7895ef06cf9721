"""Annotations of a function, with what is written as text resolved."""

import typing
from collections.abc import Callable
from typing import Any


def resolved_annotations(func: Callable[..., Any]) -> dict[str, object]:
    """Return the annotations of `func`; names are looked up around it too, where it closes over.

    Raises:
        NameError: One names what is not there at run time; or another error of its own.
    """
    code = getattr(func, "__code__", None)
    cells = getattr(func, "__closure__", None) or ()
    local: dict[str, object] = {}
    for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=False):
        try:
            local[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return typing.get_type_hints(func, localns=local, include_extras=True)
